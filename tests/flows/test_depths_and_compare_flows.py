"""The flows that score models, on a real server: deployments, artifacts, the pruned bundle."""

import json

import pytest
from bundles import random_bundle
from flow_runs import deployment, of_run, start_run, wait_for_run

from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store, join

pytestmark = pytest.mark.slow
SERIAL = {"kind": "serial", "threads": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    nested = random_bundle(
        folder / "nested",
        network="unetplus",
        features=(2, 2, 4),
        roi_size=(32, 16, 16),
        overlap=0.0,
    )
    return nested, random_bundle(folder / "plain", features=(4, 8))


def test_a_depth_is_chosen_from_its_deployment(deployed, cohort, models):
    bucket, small = cohort
    settings = {
        "images": small.images, "masks": small.masks, "model": models[0], "cluster": SERIAL,
        "output": join(bucket, "depths"),
    }  # fmt: skip
    run = wait_for_run(deployed, start_run(deployed, "on-demand", settings, "depths"))
    assert run["state_name"] == "CompletedWithFaults", run["state"]["message"]
    artifacts = {one["key"]: one for one in of_run(deployed, "artifacts", run)}
    rows = json.loads(artifacts["depths"]["data"])
    names = [row["depth"].removesuffix(" (chosen)") for row in rows]
    assert names == ["L1", "L2", "mean", "adaptive"]
    assert artifacts["speed"]["data"].startswith("data:image/png;base64,")
    assert "origin_mismatch" in artifacts["summary"]["data"].replace("\\", "")
    (page,) = [url for url in Store().list_files(bucket) if url.endswith("report.html")]
    assert page in artifacts["report"]["description"]
    result = json.loads(Store().read(page.replace("report.html", "result.json")))
    pruned, adaptive = result["bundles"].values()
    assert load_bundle(pruned, Store()).name == f"nested-L{result['choice']['depth']}"
    assert load_bundle(adaptive, Store()).adaptive is not None


@pytest.mark.soak  # what it shows is shown as for depths
def test_bundles_are_compared_from_their_deployment(deployed, cohort, models):
    bucket, small = cohort
    settings = {
        "images": small.images, "masks": small.masks, "models": list(models), "cluster": SERIAL,
        "output": join(bucket, "compared"),
    }  # fmt: skip
    run = wait_for_run(deployed, start_run(deployed, "on-demand", settings, "compare"))
    assert run["state_name"] == "CompletedWithFaults", run["state"]["message"]
    artifacts = {one["key"]: one for one in of_run(deployed, "artifacts", run)}
    assert [row["bundle"] for row in json.loads(artifacts["compare"]["data"])] == [
        "nested", "plain",
    ]  # fmt: skip
    assert "plain` less `nested" in artifacts["summary"]["data"]


@pytest.mark.parametrize(
    ("flow", "settings"), [("depths", "DepthsSettings"), ("compare", "CompareSettings")]
)
def test_the_run_forms_say_what_each_setting_is(deployed, flow, settings):
    schema = deployment(deployed, "on-demand", flow)["parameter_openapi_schema"]
    definitions = schema["definitions"]
    for kind in (settings, "ScoringSettings"):
        fields = definitions[kind]["properties"].values()
        assert all(field.get("description") for field in fields)
