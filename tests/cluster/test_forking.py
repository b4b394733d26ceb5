"""Workers of this machine are copies of one process that has imported, and of nothing else."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from unet_pipeline.cluster import forking
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor

LOCAL = ClusterSpec("local", 2)
copies = pytest.mark.skipif(forking.use_copies() == "spawn", reason="no Linux, or a GPU")
NAMES = ("NEW_SINCE", "CHANGED_SINCE", "GONE_SINCE")


def seen():
    return os.getpid(), os.getppid(), [os.environ.get(name) for name in NAMES], str(Path.cwd())


def workers(executor):
    return [*executor.client.run(seen, on_error="ignore").values()]


@copies
def test_workers_are_copies_of_one_process_of_one_thread_that_has_imported():
    with open_executor(LOCAL) as executor:
        (parent,) = {of for _, of, _, _ in workers(executor)}
        server = psutil.Process(parent)
        assert server.num_threads() == 1, "what a thread holds is never let go of in a copy"
        assert any("libtorch" in one.path for one in server.memory_maps())
        assert server.ppid() == os.getpid()
    with open_executor(LOCAL) as executor:
        assert {of for _, of, _, _ in workers(executor)} == {parent}


@copies
def test_the_copy_in_the_place_of_a_killed_worker_is_there_at_once():
    with open_executor(LOCAL) as executor:
        before = {pid for pid, *_ in workers(executor)}
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while len(now := {pid for pid, *_ in workers(executor)} - {killed}) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (new,) = now - before
        spent = psutil.Process(new).cpu_times()
        assert spent.user + spent.system < 2, "it imported anew"


def test_workers_have_the_variables_and_the_folder_that_the_driver_has_now(tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_forking import LOCAL, NAMES, open_executor, workers

def main():
    os.environ |= {{"CHANGED_SINCE": "before", "GONE_SINCE": "before"}}
    for _ in range(2):
        with open_executor(LOCAL) as executor:
            print([one[2:] for one in workers(executor)])
        os.environ |= {{"NEW_SINCE": "after", "CHANGED_SINCE": "after"}}
        os.environ.pop("GONE_SINCE", None)
        os.chdir({str(tmp_path)!r})

if __name__ == "__main__":
    main()
"""
    script = tmp_path / "twice.py"
    script.write_text(code)
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    assert ran.returncode == 0, ran.stderr
    first = ([None, "before", "before"], str(Path(__file__).parent))
    then = (["after", "after", None], str(tmp_path))
    assert ran.stdout.splitlines() == [str([first] * 2), str([then] * 2)]


def test_a_long_name_of_the_temporary_folder_is_no_hindrance(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert forking.use_copies() == "spawn"


def test_where_there_is_a_gpu_workers_are_no_copies(monkeypatch, tmp_path):
    """A process that has counted its devices can give its copies none."""
    monkeypatch.setattr(forking, "_GPUS", (str(tmp_path),))
    assert forking.use_copies() == "spawn"
