"""The processes of flow runs on this machine: which there are, and how they are ended.

Prefect's worker starts a run in a session of its own, so it goes on when its worker is killed. Who
it is says its environment, which Linux shows; where there is no ``/proc``, nothing is found.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
END_SECONDS = 15.0  # a run writes its report when it is told to end
_POLL_SECONDS = 0.1


def flow_processes(home: Path) -> dict[str, int]:
    """Return the processes of the runs of a server in this folder: their numbers by run id.

    Of each it is the first of its session; ending the session's group ends all of the run.
    """
    found = {}
    for entry in PROC.glob("[0-9]*"):
        pid = int(entry.name)
        with suppress(OSError):  # of others, or just gone
            if os.getsid(pid) != pid or not lives(pid):
                continue
            told = _environment(entry)
            if (run := told.get("PREFECT__FLOW_RUN_ID")) and told.get("PREFECT_HOME") == str(home):
                found[run] = pid
    return found


def lives(pid: int) -> bool:
    """Say whether a process runs; one that ended and waits to be counted does not."""
    try:
        os.kill(pid, 0)
        state = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # no /proc
        return True
    return state not in "ZX"


def end_flow_processes(home: Path, seconds: float = END_SECONDS) -> None:
    """End all runs of a server in this folder that are left; they are gone when this returns.

    Parameters
    ----------
    seconds
        How long they may take to end by themselves.
    """
    deadline = time.monotonic() + seconds
    for pid in (left := flow_processes(home)).values():
        signal_group(pid, signal.SIGTERM)
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        left = {run: pid for run, pid in left.items() if lives(pid)}
    for pid in left.values():
        signal_group(pid, signal.SIGKILL)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process and its children, if they are still there."""
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _environment(entry: Path) -> dict[str, str]:
    words = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
    return {name: value for name, _, value in (word.partition("=") for word in words)}
