"""A run that names what its worker was not allowed ends as a refused request, with its code."""

import json
from pathlib import Path

import pytest
from flow_runs import deployment, latest_run, start_run, wait_for_run
from strange_pages import bundle_that_leaves_a_mark

from unet_pipeline.config.allowed import VARIABLE
from unet_pipeline.errors import RequestError

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[1] / "wrong_requests.py"
WITH_TRUST = ("segment", "layers", "depths", "compare")
OTHERS = {
    "check": ({"output": "/etc/cron.d"}, "prefix_not_allowed"),
    "train": ({"storage": {"endpoint_url": "http://127.0.0.1:1"}}, "endpoint_not_allowed"),
}


@pytest.fixture(scope="module")
def mark(tmp_path_factory):
    return tmp_path_factory.mktemp("mark") / "code-ran"


@pytest.fixture(scope="module")
def model(mark):
    return bundle_that_leaves_a_mark(mark.parent / "bundle", mark)


@pytest.fixture(scope="module")
def states(server, copies, model, mark):
    """Run all flows, in a process that is none of theirs, and return their final states."""
    place = str(mark.parent)
    given = {"images": f"{place}/scans", "output": f"{place}/out"}
    requests = []
    for flow in WITH_TRUST:
        own = {"models": [model, "phantom"]} if flow == "compare" else {"model": model}
        requests.append((flow, {**given, **own, "trust": True}))
    requests += [(flow, {**given, **own}) for flow, (own, _) in OTHERS.items()]
    file = mark.parent / "requests.json"
    file.write_text(json.dumps(requests))
    ran = copies.run(mark.parent, str(SCRIPT), str(file), env={VARIABLE["prefix"]: place})
    said, _ = ran.communicate(timeout=200)
    assert ran.returncode == 0, said
    return {name: latest_run(server, name)["state"] for name in (*WITH_TRUST, *OTHERS)}


@pytest.mark.parametrize("flow", WITH_TRUST)
def test_no_run_says_trust_unless_its_worker_allows_the_bundle(states, mark, flow):
    assert states[flow]["name"] == "WrongRequest"
    assert states[flow]["message"].startswith("[trust_not_allowed]")
    assert "sha256:" in states[flow]["message"]  # what whoever starts the worker would allow
    assert not mark.exists()


@pytest.mark.parametrize("flow", OTHERS)
def test_no_run_names_places_and_servers_of_its_own(states, flow):
    assert states[flow]["name"] == "WrongRequest"
    assert states[flow]["message"].startswith(f"[{OTHERS[flow][1]}]")


def test_a_run_cannot_allow_itself_what_its_worker_does_not(deployed, model, mark, tmp_path):
    """Neither by variables nor by a command of its own."""
    settings = {
        "images": str(tmp_path), "model": model, "output": str(tmp_path / "out"), "trust": True,
        "cluster": {"kind": "serial"},
    }  # fmt: skip
    own = {
        "env": {VARIABLE["trust"]: model, "PREFECT__RUNTIME__DEPLOYMENT__ID": ""},
        "command": f"touch {mark}",
    }
    path = f"/deployments/{deployment(deployed, 'on-demand')['id']}/create_flow_run"
    body = {"parameters": {"settings": settings}, "state": {"type": "SCHEDULED"}}
    try:
        run = deployed.api(path, {**body, "job_variables": own})
    except RequestError as error:
        assert "status 4" in str(error)  # noqa: PT017  the server may refuse, or leave them out
        run = start_run(deployed, "on-demand", settings)
    run = wait_for_run(deployed, run)
    assert run["state"]["message"].startswith("[trust_not_allowed]")
    assert not mark.exists()
