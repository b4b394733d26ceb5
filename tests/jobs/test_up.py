"""``unet-pipeline up``, as a user starts and stops it."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from flow_runs import OVER, of_run, start_run, wait_for_run, wait_until

from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.up import local_time_zone
from unet_pipeline.local.password import kept_password
from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.local.prefect_server import prefect_server
from unet_pipeline.local.up_state import UpStatus, read_status
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where it is started twice: the second time, the home has its database already."""
    return tmp_path_factory.mktemp("up")


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)]
)
def test_up_serves_until_it_is_stopped_and_leaves_nothing(folder, number):
    said, is_first = folder / f"said-{number}", not (folder / "home").exists()
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
        assert (kept in said.read_text()) is is_first  # once, where one sees it
        assert kept not in "".join(log.read_text() for log in (folder / "home").glob("*.log"))
        started = psutil.Process(up.pid).children(recursive=True)
        assert len(started) >= 2  # server and worker
        with pytest.raises(RequestError) as raised, prefect_server(folder / "home", port=0):
            pass
        assert raised.value.code == "home_in_use"
        status = read_status(folder / "home")
        assert status is not None
        assert status.serves
        assert status.up.pid == up.pid
        assert {status.server.pid, status.worker.pid} <= {one.pid for one in started}
        assert status.runs == ()
        up.send_signal(number)
        assert up.wait(60) == (0 if number == signal.SIGTERM else -number)
        _, alive = psutil.wait_procs(started, timeout=20)
        assert not alive
        assert read_status(folder / "home") is None
    finally:
        up.kill()
        up.wait()


@pytest.mark.soak
def test_a_worker_and_a_server_that_are_killed_come_back_and_a_run_goes_on(tmp_path):
    home, out = tmp_path / "home", tmp_path / "out"
    names = write_cohort(Store(), str(tmp_path), 8)
    settings = {
        "images": str(tmp_path / "images"), "model": "phantom", "output": str(out),
        "windows": {"overlap": 0.6}, "cluster": {"kind": "serial", "threads": 1},
    }  # fmt: skip
    words = ["up", "--home", home, "--port", "0", "--allow-prefix", tmp_path]
    up = subprocess.Popen(
        [sys.executable, "-m", "unet_pipeline", *words],
        env={**os.environ, "PREFECT_WORKER_QUERY_SECONDS": "2"},
    )

    def status() -> UpStatus | None:
        assert up.poll() is None
        return read_status(home)

    def kill(name: str) -> None:
        before = getattr(status(), name)
        os.kill(before.pid, signal.SIGKILL)
        wait_until(lambda: getattr(status(), name).pid != before.pid, 60)
        now = wait_until(lambda: (found := status()).serves and found, 60)
        assert getattr(now, name).starts == 2
        assert [one.pid > 0 for one in now.runs] == [True]  # the run, and its process

    try:
        url = wait_until(status, 200).url
        password = kept_password(home)
        assert password is not None
        server = PrefectApi(url=url, home=home, password=password)
        run = start_run(server, "on-demand", settings)
        for name, maps in (("worker", 1), ("server", 2)):
            wait_until(lambda maps=maps: len([*out.glob("*.nii.gz")]) >= maps, 120)
            assert server.api(f"/flow_runs/{run['id']}")["state_type"] not in OVER
            kill(name)
        ended = wait_for_run(server, run)
        assert (ended["state_name"], ended["run_count"]) == ("Completed", 1)
        assert len([*out.glob("*.nii.gz")]) == len(names)
        wait_until(lambda: states_of(server, run) == {"Completed"}, 30)
        assert len(of_run(server, "task_runs", run)) == len(names)
        (bar,) = [one for one in of_run(server, "artifacts", run) if one["type"] == "progress"]
        assert bar["data"] == 100
        following = wait_for_run(server, start_run(server, "on-demand", settings))
        assert following["state"]["message"].startswith(f"0 done, {len(names)} skipped")
    finally:
        up.terminate()
        assert up.wait(60) == 0


def states_of(server, run) -> set[str]:
    return {one["state_name"] for one in of_run(server, "task_runs", run)}


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
