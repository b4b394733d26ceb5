"""Calibration of adaptive depth on phantoms, with the bundle that comes with the package."""

import json
import shutil

import pytest
from bundles import random_bundle
from cohorts import write_tiny

from unet_pipeline.errors import RequestError
from unet_pipeline.gate.examine import Policy
from unet_pipeline.networks.bundle import PACKAGED
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.store import Store
from unet_pipeline.training.calibrate import calibrate_bundle, calibrate_on


@pytest.fixture
def bundle(tmp_path):
    shutil.copytree(PACKAGED / "phantom", tmp_path / "model")
    (tmp_path / "model/configs/adaptive.json").unlink(missing_ok=True)
    return load_bundle(str(tmp_path / "model"), Store())


@pytest.mark.slow
def test_the_limit_keeps_the_promise_on_its_curve(tmp_path, bundle):
    store = Store()
    write_tiny(store, str(tmp_path), 3)
    images, masks = str(tmp_path / "images"), str(tmp_path / "masks")
    rule = calibrate_bundle(bundle, store, images, masks, 0.01)
    by_limit = {point["limit"]: point for point in rule.curve}
    first, last = rule.curve[0], rule.curve[-1]
    assert (first["mean_depth"], first["loss"], first["multiply_adds_share"]) == (4.0, 0.0, 1.0)
    assert last["mean_depth"] == 1.0
    assert last["multiply_adds_share"] < 0.5
    depths = [point["mean_depth"] for point in rule.curve]
    assert depths == sorted(depths, reverse=True)
    within = [p["limit"] for p in rule.curve if p["loss_bound"] <= 0.01]
    assert rule.limit == max(within)
    assert by_limit[rule.limit]["loss_bound"] <= 0.01
    again = load_bundle(bundle.url, store)
    assert again.adaptive == rule
    stored = json.loads((tmp_path / "model/configs/adaptive.json").read_text())
    assert stored["cohort"]["cases"] == 3

    careful = calibrate_bundle(bundle, store, images, masks, 0.0)
    assert careful.limit <= rule.limit


def test_one_case_calibrates_nothing(tmp_path, bundle):
    write_tiny(Store(), str(tmp_path), 1)
    with pytest.raises(RequestError) as caught:
        calibrate_bundle(bundle, Store(), str(tmp_path / "images"), str(tmp_path / "masks"), 0.01)
    assert caught.value.code == "calibration_impossible"


def test_a_bundle_is_calibrated_on_the_validation_cases_of_a_manifest(tmp_path):
    write_tiny(Store(), str(tmp_path), 1)
    rows = ["case,image,mask,split"]
    for name, split in (("a", "val"), ("b", "test"), ("c", "val"), ("d", "train"), ("e", "")):
        files = (f"{tmp_path}/{kind}/phantom-01.nii.gz" for kind in ("images", "masks"))
        rows.append(",".join([name, *files, split]))
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    model = random_bundle(tmp_path / "model", network="unetpp", features=(2, 2, 4, 4, 4),
                          roi_size=(32, 16, 16), overlap=0.0)  # fmt: skip
    bundle = load_bundle(model, Store())
    rule = calibrate_bundle(bundle, Store(), str(tmp_path / "cohort.csv"), None, 0.01)
    assert rule.cohort == {"cases": 2, "names": digest_json(["a", "c"])}


def test_what_the_gate_may_put_right_is_calibrated_on(tmp_path):
    write_tiny(Store(), str(tmp_path), 3, misaligned=True)
    broken = tmp_path / "images/phantom-01.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-3000])  # the header is sound, the voxels are not
    model = random_bundle(tmp_path / "model", network="unetpp", features=(2, 2, 4, 4, 4))
    bundle = load_bundle(model, Store())
    cases = discover(Store(), str(tmp_path / "images"), str(tmp_path / "masks")).cases
    with pytest.raises(RequestError, match="1 cases") as caught:
        calibrate_on(bundle, Store(), cases, 0.01)
    assert caught.value.code == "calibration_impossible"
    rule = calibrate_on(bundle, Store(), cases, 0.01, Policy(fixes=frozenset({"resample-mask"})))
    assert rule.cohort["cases"] == 2
