"""``unet-pipeline up``, as a user starts and stops it."""

import signal
import socket
import subprocess
import sys

import psutil
import pytest
from flow_runs import wait_until

from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.up import local_time_zone
from unet_pipeline.local.prefect_server import prefect_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where it is started twice: the second time, the home has its database already."""
    return tmp_path_factory.mktemp("up")


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)]
)
def test_up_serves_until_it_is_stopped_and_leaves_nothing(folder, number):
    said = folder / f"said-{number}"
    with said.open("w") as file:
        up = subprocess.Popen(
            [sys.executable, "-m", "unet_pipeline", "up", "--home", "home", "--port", "0"],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Ctrl-C stops" in said.read_text() or up.poll() is not None, 300)
        assert up.poll() is None, said.read_text()
        assert "http://127.0.0.1:" in said.read_text()
        kept = (folder / "home" / "password").read_text()
        assert (kept in said.read_text()) is (number == signal.SIGTERM)  # once, where one sees it
        assert kept not in "".join(log.read_text() for log in (folder / "home").glob("*.log"))
        started = psutil.Process(up.pid).children(recursive=True)
        assert len(started) >= 2  # server and worker
        with pytest.raises(RequestError) as raised, prefect_server(folder / "home", port=0):
            pass
        assert raised.value.code == "home_in_use"
        up.send_signal(number)
        assert up.wait(60) == (0 if number == signal.SIGTERM else -number)
        _, alive = psutil.wait_procs(started, timeout=20)
        assert not alive
    finally:
        up.kill()
        up.wait()


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RequestError) as raised, prefect_server(tmp_path, port=port):
            pass
    assert raised.value.code == "port_taken"


def test_the_time_zone_of_this_machine_is_one():
    from zoneinfo import ZoneInfo

    assert ZoneInfo(local_time_zone()).key == local_time_zone()
