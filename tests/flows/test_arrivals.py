"""Scans that arrive start a run: events and an automation of a real server."""

import pytest
from flow_runs import deployment, wait_for_run, wait_until
from postgresql import free_port

from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.up import run_arrived
from unet_pipeline.local.arrivals import NAME, start_on_arrival
from unet_pipeline.storage.store import join

pytestmark = pytest.mark.slow


@pytest.fixture
def listening(deployed, cohort, monkeypatch):
    """A server that starts runs ten seconds after the last word, and programs that find it."""
    made = deployment(deployed, "on-demand")
    settings = made["parameters"]["settings"]
    ours = settings | {"model": "phantom", "output": join(cohort[0], "out")}
    place = f"/deployments/{made['id']}"
    deployed.api(place, {"parameters": {"settings": ours}}, method="PATCH")
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, deployed.env[name])
    start_on_arrival(deployed, 10)
    yield deployed
    start_on_arrival(deployed, None)
    deployed.api(place, {"parameters": {"settings": settings}}, method="PATCH")
    assert NAME not in [one["name"] for one in deployed.api("/automations/filter", {})]


def runs_over(server, images):
    """Runs of segment/on-demand over a place."""
    of = {"deployments": {"id": {"any_": [deployment(server, "on-demand")["id"]]}}}
    found = server.api("/flow_runs/filter", of)
    return [run for run in found if run["parameters"]["settings"]["images"] == images]


def test_there_is_one_automation_however_often_it_is_registered(listening):
    start_on_arrival(listening, 600)
    found = [one for one in listening.api("/automations/filter", {}) if one["name"] == NAME]
    assert [one["trigger"]["within"] for one in found] == [600]


def test_without_a_server_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(RequestError, match="no server that `up` runs"):
        run_arrived("s3://scans", tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with pytest.raises(RequestError, match="no server at http"):
        run_arrived("s3://scans", tmp_path)


@pytest.mark.soak
def test_one_run_begins_where_many_files_arrived_and_none_where_none_may(listening, cohort):
    _, small = cohort
    for _ in range(20):
        run_arrived(small.images)
    run_arrived("/srv/of-another-site")
    wait_until(lambda: runs_over(listening, small.images), 60)
    run_arrived(small.images)  # more of them, while it goes on
    (run,) = runs_over(listening, small.images)
    assert wait_for_run(listening, run)["state_name"] == "CompletedWithFaults"
    (other,) = wait_until(lambda: runs_over(listening, "/srv/of-another-site"), 60)
    assert "prefix_not_allowed" in wait_for_run(listening, other)["state"]["message"]
    wait_until(lambda: len(runs_over(listening, small.images)) == 2, 60)
