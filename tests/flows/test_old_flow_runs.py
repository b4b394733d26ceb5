"""Old flow runs go with all that hangs on them; what goes on, is new or not ours stays."""

import json
import time
from datetime import UTC, datetime

import pytest
import yaml
from command_line import ROOT, cli
from flow_runs import latest_run, of_run, settings_of, wait_until

from unet_pipeline.local.old_flow_runs import FLOWS, OldRun, remove_run

pytestmark = pytest.mark.slow


def began(server, flow, state):
    """A run without a process, in a state."""
    made = server.api("/flow_runs/", {"flow_id": server.api("/flows/", {"name": flow})["id"]})
    for kind in ("RUNNING", state):
        told = {"state": {"type": kind}, "force": True}
        server.api(f"/flow_runs/{made['id']}/set_state", told)
    return made["id"]


def tidied(*words):
    """The flow runs that a command names."""
    done = cli("tidy", *words, "--flow-runs", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {one["place"].rpartition("/")[2] for one in lines if one.get("kind") == "flow run"}


@pytest.fixture
def reached(server, monkeypatch):
    """The server, as programs find it."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, server.env[name])
    return server


def test_old_flow_runs_go_on_request(reached, tmp_path):
    going, old = began(reached, "segment", "RUNNING"), began(reached, "segment", "COMPLETED")
    theirs = began(reached, "theirs", "COMPLETED")
    output = str(tmp_path)
    time.sleep(1)
    new = began(reached, "check", "CANCELLED")
    assert tidied(output, "--keep", "1") == set()  # none is of 90 days ago
    assert tidied(output, "--keep", "1000", "--older-than", "1s") == set()
    asked = (output, "--keep", "1", "--older-than", "1s")
    assert old in (named := tidied(*asked))
    assert not named & {going, theirs, new}
    assert reached.api(f"/flow_runs/{old}") is not None  # it was only named
    assert tidied(*asked, "--yes") == named
    assert reached.api(f"/flow_runs/{old}") is None
    for one in (going, theirs):
        assert reached.api(f"/flow_runs/{one}")["id"] == one
        reached.api(f"/flow_runs/{one}", method="DELETE")
    assert tidied(*asked, "--yes") == set()
    reached.api(f"/flow_runs/{new}", method="DELETE")


@pytest.mark.soak
def test_nothing_of_a_removed_run_is_left(server, copies, cohort, tmp_path):
    bucket, small = cohort
    copies.start(settings_of(bucket, small), tmp_path).communicate(timeout=100)
    run = latest_run(server)
    wait_until(lambda: of_run(server, "task_runs", run), 30)
    logs = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    wait_until(lambda: server.api("/logs/filter", logs), 30)
    artifacts = of_run(server, "artifacts", run)
    (task, *_) = of_run(server, "task_runs", run)
    assert artifacts
    assert remove_run(server, OldRun(run["id"], run["name"], datetime.now(UTC)))
    for one in artifacts:
        assert server.api(f"/artifacts/{one['id']}") is None
    assert server.api(f"/task_runs/{task['id']}") is None
    wait_until(lambda: not server.api("/logs/filter", logs), 30)
    assert not remove_run(server, OldRun(run["id"], run["name"], datetime.now(UTC)))


def test_flows_are_ours():
    found = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]
    assert {one["entrypoint"].rpartition(".")[2] for one in found} == {*FLOWS}
