"""P10 on the Prefect page, and secrets: logs, states, artifacts and parameters of flow runs."""

import json

import pytest
from flow_runs import deployment, of_run
from planted_names import FAULTS, NEEDLES, SOUND, Outcome, spellings

from unet_pipeline.errors import RequestError

pytestmark = pytest.mark.slow


def test_no_patient_text_and_no_key_reaches_prefect(server, on_dask, s3):
    run, said = on_dask
    tasks = of_run(server, "task_runs", run)
    states = {task["name"]: task["state_name"] for task in tasks}
    assert states == {
        **dict.fromkeys(SOUND, "Completed"),
        **dict.fromkeys(FAULTS, "Quarantined"),
    }
    logs = server.api("/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert logs
    shown = {
        "logs": logs, "run": run, "tasks": tasks, "artifacts": of_run(server, "artifacts", run),
        "said": said,
    }  # fmt: skip
    files = {name: json.dumps(one, ensure_ascii=False).encode() for name, one in shown.items()}
    outcome = Outcome(files=files)
    needles = [form for text in NEEDLES for form in spellings(text)]
    assert outcome.where([*needles, s3.secret.encode()]) == []


def test_the_server_does_not_take_a_url_with_a_secret(deployed):
    """It is refused by the schema of the run form: no run is made, nothing is stored."""
    canary = "canaryPASSWORDcanary"
    settings = {
        "images": f"s3://AKIAKEY:{canary}@scans/x", "model": "phantom", "output": "s3://out/x"
    }  # fmt: skip
    body = {"parameters": {"settings": settings}}
    path = f"/deployments/{deployment(deployed, 'on-demand')['id']}/create_flow_run"
    with pytest.raises(RequestError, match="status 4"):
        deployed.api(path, body)
    assert canary not in json.dumps(deployed.api("/flow_runs/filter", {}))
