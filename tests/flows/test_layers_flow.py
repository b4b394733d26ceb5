"""The look inside a network on a real server: its deployment, its artifacts, its report."""

import json

import pytest
from flow_runs import form_fields, of_run, start_run, wait_for_run

from unet_pipeline.storage.store import Store, join

pytestmark = pytest.mark.slow
FLOW = "layers"


def test_layers_from_its_deployment(deployed, cohort):
    bucket, small = cohort
    settings = {
        "images": small.images, "masks": small.masks, "model": "phantom",
        "output": join(bucket, "layers"), "fit_cases": 1, "score_cases": 3, "windows": 1,
        "groups": 0, "voxels": 600, "threads": 1,
        "layers": ["conv_0_0", "upcat_0_1", "final_conv_0_1"],
    }  # fmt: skip
    run = wait_for_run(deployed, start_run(deployed, "on-demand", settings, FLOW), 280)
    assert run["state_name"] == "CompletedWithFaults"
    assert run["state"]["message"] == "Fitted on 1, scored 1, 2 left out"
    artifacts = {one["key"]: one for one in of_run(deployed, "artifacts", run)}
    rows = json.loads(artifacts["layers"]["data"])
    assert {"conv_0_0", "upcat_0_1", "final_conv_0_1"} <= {row["layer"] for row in rows}
    assert all(row["dice_lost"] is not None for row in rows)
    assert "upcat_0_1" in artifacts["summary"]["data"]
    assert artifacts["network"]["data"].startswith("data:image/svg+xml;base64,")
    (page,) = [url for url in Store().list_files(bucket) if url.endswith("layers.html")]
    assert page in artifacts["report"]["description"]
    assert "data:image/png" in Store().read(page).decode()


def test_the_run_form_has_all_settings_of_layers(deployed):
    fields = form_fields(deployed, FLOW)
    assert {"images", "masks", "model", "output", "layers", "groups", "gate"} <= set(fields)
    assert all(field.get("description") for field in fields.values())
