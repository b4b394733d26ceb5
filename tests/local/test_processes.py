import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unet_pipeline.local.processes import start, stop

ROOT = Path(__file__).resolve().parents[2]
SHELL = Path("/bin/sh")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl, which is Linux only")


def lives(pid):
    """Say whether a process runs; one that ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def read_pids(log, count):
    wait_until(lambda: log.exists() and len(log.read_text().split()) >= count)
    return [int(word) for word in log.read_text().split()]


def test_command_environment_and_output(tmp_path):
    log = tmp_path / "log"
    command = [SHELL, "-c", 'echo "$WORD $1"; echo "$HOME" >&2; exit 3', "sh", "a b"]
    process = start(command, env={"WORD": "said"}, log=log)
    assert process.wait(20) == 3
    assert log.read_text() == "said a b\n\n"
    stop(process)


@linux_only
def test_stop_ends_the_children_too(tmp_path):
    log = tmp_path / "log"
    script = "sleep 600 & echo $!; (trap '' TERM; sleep 600) & echo $!; wait"
    process = start([SHELL, "-c", script], env=dict(os.environ), log=log)
    pids = [process.pid, *read_pids(log, 2)]
    assert all(lives(pid) for pid in pids)
    stop(process, grace_s=0.5)
    wait_until(lambda: not any(lives(pid) for pid in pids))
    assert process.returncode == -signal.SIGTERM


@linux_only
def test_stop_ends_children_of_a_process_that_is_gone(tmp_path):
    log = tmp_path / "log"
    process = start([SHELL, "-c", "sleep 600 & echo $!"], env=dict(os.environ), log=log)
    (child,) = read_pids(log, 1)
    process.wait(20)
    assert lives(child)
    stop(process)
    wait_until(lambda: not lives(child))


def test_stop_does_not_wait_longer_than_it_must(tmp_path):
    process = start([SHELL, "-c", "exec sleep 600"], env=dict(os.environ), log=tmp_path / "log")
    begin = time.monotonic()
    stop(process, grace_s=60)
    assert time.monotonic() - begin < 30


PARENT = """
import os, sys, time
from pathlib import Path
from unet_pipeline.local.processes import start
process = start(["/bin/sleep", "600"], env=dict(os.environ), log=Path(sys.argv[1]))
print(process.pid, flush=True)
time.sleep(600)
"""


@linux_only
def test_a_process_ends_with_a_parent_that_is_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        wait_until(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes()[:12])
        parent.kill()
    wait_until(lambda: not lives(child))
