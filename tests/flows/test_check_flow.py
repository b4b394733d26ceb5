"""The flow check on a real server: its deployment, its artifacts, its report."""

import json

import pytest
from flow_runs import deployment, of_run, start_run, wait_for_run

from unet_pipeline.storage.store import Store, join

pytestmark = pytest.mark.slow
FLOW = "check"


def test_a_check_from_its_deployment(deployed, cohort):
    bucket, small = cohort
    settings = {
        "images": small.images,
        "masks": small.masks,
        "output": join(bucket, "checked"),
        "gate": {"content": True},
    }
    run = wait_for_run(deployed, start_run(deployed, "on-demand", settings, FLOW))
    assert run["state_name"] == "CompletedWithFaults"
    assert run["state"]["message"] == "2 pass, 0 warn, 2 fail"
    artifacts = {one["key"]: one for one in of_run(deployed, "artifacts", run)}
    rows = json.loads(artifacts["alignment"]["data"])
    assert {row["case"]: row["codes"] for row in rows} == {
        small.misaligned: "origin_mismatch",
        small.cut_short: "file_truncated",
        **dict.fromkeys(small.sound, ""),
    }
    assert rows[0]["verdict"] == "fail"
    assert "origin_mismatch" in artifacts["summary"]["data"].replace("\\", "")
    (page,) = [url for url in Store().list_files(bucket) if url.endswith("check.html")]
    assert "data:image/png" in Store().read(page).decode()
    assert page in artifacts["report"]["description"]


def test_the_run_form_has_its_settings(deployed):
    schema = deployment(deployed, "on-demand", FLOW)["parameter_openapi_schema"]
    fields = schema["definitions"]["CheckSettings"]["properties"]
    assert {"images", "masks", "output", "model", "gate", "fix"} <= set(fields)
    assert all(field.get("description") for field in fields.values())
