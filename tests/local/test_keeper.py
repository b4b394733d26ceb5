"""What dies is started again, more slowly each time; runs and logs are looked after."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unet_pipeline.local.flow_processes import end_flow_processes, flow_processes, lives
from unet_pipeline.local.keeper import Backoff, GivenUpError, Kept
from unet_pipeline.local.log_files import bound
from unet_pipeline.local.processes import Lasting
from unet_pipeline.local.up_state import read_status

SHELL = Path("/bin/sh")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which is Linux only")


def test_each_death_soon_after_a_start_waits_twice_as_long_until_it_is_given_up():
    pauses, now = [], Backoff().after(lived=3)
    while not now.gives_up:
        pauses.append(now.pause)
        now = now.after(lived=59.9)
    assert pauses == [1, 2, 4, 8, 16]


def test_who_lived_for_a_minute_begins_anew():
    tired = Backoff(deaths=5)
    assert tired.after(lived=59).gives_up
    assert tired.after(lived=60) == Backoff(deaths=1)


def test_what_dies_at_once_is_started_again_and_then_given_up(tmp_path):
    again = Lasting([SHELL, "-c", "echo here; exit 7"], env={}, log=tmp_path / "log")
    kept, said = Kept("worker", again), []
    for _ in range(5):
        again.process.wait(20)
        said.append(kept.died(again.since + 1))
        assert not kept.died(again.since + 1)  # said once
        kept.start()
    again.process.wait(20)
    with pytest.raises(GivenUpError, match="a worker that ended with 7, for the 6th time in a row"):
        kept.died(again.since + 1)
    assert said[1] == "The worker ended with 7; it starts again in 2 s"
    assert (tmp_path / "log").read_text() == "here\n" * 6


def test_a_killed_process_is_said_to_be(tmp_path):
    long = Lasting([SHELL, "-c", "exec sleep 600"], env={}, log=tmp_path / "log")
    kept = Kept("server", long)
    try:
        assert not kept.died(long.since)
        os.kill(long.pid, signal.SIGKILL)
        long.process.wait(20)
        assert kept.died(long.since + 90).startswith("The server was killed by SIGKILL")
        kept.start()
        assert long.poll() is None
    finally:
        long.stop()


@linux_only
def test_the_process_of_a_run_is_found_by_its_environment_and_ended(tmp_path):
    def run(home, script):
        told = {"PREFECT_HOME": str(home), "PREFECT__FLOW_RUN_ID": script[:4]}
        return subprocess.Popen([SHELL, "-c", script], env=told, start_new_session=True)

    begun = time.monotonic()
    calm = run(tmp_path, "true; sleep 600 & wait")
    stubborn = run(tmp_path, "trap '' TERM; while :; do sleep 1; done")
    other = run(tmp_path / "other", "exec sleep 600")
    try:
        while len(found := flow_processes(tmp_path)) < 2:  # until both are what they will be
            assert time.monotonic() < begun + 20
        assert found == {"true": calm.pid, "trap": stubborn.pid}
        end_flow_processes(tmp_path, seconds=0.5)
        assert (calm.wait(20), stubborn.wait(20)) == (-signal.SIGTERM, -signal.SIGKILL)
        assert lives(other.pid)
    finally:
        other.kill()
        other.wait()


def test_a_log_that_grows_is_moved_on_and_never_more_than_four_are_there(tmp_path):
    log = tmp_path / "server.log"
    with log.open("ab", buffering=0) as server:  # as a server has it open
        for number in range(6):
            server.write(b"%d" % number * 20)
            bound(log, most=10, kept=3)
            bound(log, most=10, kept=3)  # nothing to move
        server.write(b"last")
    texts = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert texts == {
        "server.log": "last", "server.log.1": "5" * 20, "server.log.2": "4" * 20,
        "server.log.3": "3" * 20,
    }  # fmt: skip
    assert log.with_name("server.log.1").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_up_left_is_not_taken_for_one_that_runs(tmp_path):
    part = {"pid": os.getpid(), "since": 0.0, "starts": 1}
    told = {"url": "http://127.0.0.1:1", "up": part, "server": part, "worker": part}
    (tmp_path / "up.json").write_text(json.dumps(told))
    assert read_status(tmp_path) is None
    (tmp_path / "lock").touch()
    assert read_status(tmp_path) is None


LINES = """
import sys
from unet_pipeline_flows.worker_log import LastingHandler
import logging
log = logging.getLogger("flow")
log.addHandler(LastingHandler())
log.setLevel(logging.INFO)
log.info("begins")
sys.stdin.readline()  # until nobody reads any more
log.info("goes on")
log.info("ends")
"""


def test_a_run_whose_worker_is_gone_says_the_rest_to_the_log_file(tmp_path):
    (tmp_path / "worker.log").write_text("worker\n")
    run = subprocess.Popen(
        [sys.executable, "-c", LINES],
        env={**os.environ, "PREFECT_HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdin is not None
    assert run.stderr is not None
    assert run.stderr.readline() == "begins\n"
    run.stderr.close()
    run.stdin.close()
    assert run.wait(60) == 0
    said = (tmp_path / "worker.log").read_text().splitlines()
    assert [*dict.fromkeys(said)] == ["worker", "goes on", "ends"]  # one may be there twice
