"""Start a server as a child process that never outlives us, and stop it with all its children."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_pipeline.private import UMASK_VARIABLE

Process = subprocess.Popen[bytes]

# Runs in the child before the server takes its place: ask Linux for SIGTERM when the parent dies.
# The parent may have died already, hence the second look. (`preexec_fn` would do the same between
# fork and exec, which is not safe in a process with threads.) A shell that starts us with `&` has
# us ignore SIGINT, and a child would inherit that: Prefect's worker stops itself by SIGINT.
_LAUNCH = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
signal.signal(signal.SIGINT, signal.SIG_DFL)
before = os.umask(0o077)
os.environ.setdefault(sys.argv[2], format(before, "03o"))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[3], sys.argv[3:])
"""
_POLL_SECONDS = 0.02


def start(command: Sequence[str | Path], *, env: Mapping[str, str], log: Path) -> Process:
    """Start ``command`` in a session of its own; a Ctrl-C in our terminal does not reach it.

    What it writes, and its log, can be read by this user only (umask 077).

    It receives SIGTERM when the thread that called ``start`` ends, however that happens (on
    Linux): start long-lived servers from the main thread.

    Parameters
    ----------
    command
        Absolute path of a program, and its arguments.
    env
        The whole environment of the process.
    log
        File that standard output and error are appended to.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), UMASK_VARIABLE]
    with open(log, "ab", opener=_private) as output:
        return subprocess.Popen(
            [*launcher, *(str(part) for part in command)],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Lasting:
    """A server that can be started again: with the same command, environment and log.

    Attributes
    ----------
    process
        The one that runs, or the last one that did.
    since
        When it was started: seconds since the epoch.
    starts
        How often it was.
    """

    def __init__(self, command: Sequence[str | Path], *, env: Mapping[str, str], log: Path) -> None:
        self.command, self.env, self.log = command, env, log
        self.starts = 0
        self._start()

    def _start(self) -> None:
        self.process = start(self.command, env=self.env, log=self.log)
        self.since, self.starts = time.time(), self.starts + 1

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self.process.poll()

    def again(self) -> None:
        """Start it once more; what is left of the one before is ended first."""
        self.stop(grace_s=1)
        self._start()

    def stop(self, grace_s: float = 10.0) -> None:
        """End it."""
        stop(self.process, grace_s)


def stop(process: Process, grace_s: float = 5.0) -> None:
    """End a process that ``start`` made, and all its children; it is gone when this returns.

    Parameters
    ----------
    grace_s
        Seconds between SIGTERM and SIGKILL.
    """
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    try:
        while time.monotonic() < deadline and _group_lives(process):
            time.sleep(_POLL_SECONDS)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _group_lives(process: Process) -> bool:
    process.poll()
    return _signal_group(process, 0)


def _signal_group(process: Process, number: int) -> bool:
    """Send a signal to the process and its children; say whether any was there."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True
