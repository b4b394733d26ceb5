"""The training flow on a real server: its deployment, its artifacts, its bundle."""

import json

import pytest
from flow_runs import form_fields, of_run, start_run, wait_for_run

from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store, join

pytestmark = pytest.mark.slow
FLOW = "train"


def settings_of_training(bucket, small, **changes):
    return {
        "images": small.images,
        "masks": small.masks,
        "output": join(bucket, "model"),
        "network": "unetplus",
        "features": [4, 8],
        "roi_size": [16, 16, 16],
        "spacing": [4, 4, 4],
        "steps": 4,
        "batch": 1,
        "holdout": 0.4,
        "checkpoint_every": 2,
        "validation": {"every": 2},
        "threads": 1,
        **changes,
    }


def test_a_training_from_its_deployment(deployed, cohort):
    bucket, small = cohort
    settings = settings_of_training(bucket, small)
    run = wait_for_run(deployed, start_run(deployed, "on-demand", settings, FLOW))
    assert run["state_name"] == "CompletedWithFaults"
    assert run["state"]["message"].endswith("on 1 cases kept aside")
    bundle = load_bundle(settings["output"], Store())
    assert bundle.out_channels == 3

    found = of_run(deployed, "artifacts", run)
    curves = [one["data"] for one in found if one["key"] == "curves"]
    assert len(set(curves)) == 2  # after each validation
    assert all(picture.startswith("data:image/png;base64,") for picture in curves)
    artifacts = {one["key"]: one for one in found}
    rows = json.loads(artifacts["dice"]["data"])
    assert [row["label"] for row in rows] == [1, 2]
    summary = artifacts["summary"]["data"]
    assert small.misaligned in summary
    assert "origin_mismatch" in summary


def test_the_training_form_has_its_settings(deployed):
    fields = form_fields(deployed, FLOW)
    assert {"images", "masks", "output", "network", "loss", "optimiser", "validation"} <= set(
        fields
    )
    assert all(field.get("description") for field in fields.values())
    assert {"title", "licence"} <= set(fields)
