"""Runs with steps after the decision: the label map, its record, and when it is made again."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import close_segment, open_segment, run_segment
from unet_pipeline.postprocessing import postprocess, read_steps
from unet_pipeline.storage.store import Store

STEPS = ("largest", "remove-small:0.01ml:1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A case, a bundle of noise, whose labels have many parts, and the label map without steps."""
    root = tmp_path_factory.mktemp("steps")
    (name,) = write_tiny(Store(), str(root), 1)
    bundle = random_bundle(root / "bundle", features=(4, 8))
    run_on(root, bundle, root / "plain")
    return root, name, bundle


def run_on(root, bundle, output, *steps, tile=None, labels=()):
    run = open_segment(
        SegmentSettings(
            images=f"{root}/images", masks=f"{root}/masks", model=str(bundle), output=str(output),
            postprocess=steps, labels=labels, windows=WindowSettings(tile=tile),
            cluster=ClusterSettings(kind="serial", threads=1),
        )
    )  # fmt: skip
    records = list(run_segment(run, SerialExecutor()))
    summary = close_segment(run, records, seconds=1.0, workers=1)
    (record,) = records
    return record, summary


def labels_and_record(output, name):
    image = nib.load(output / f"{name}_dseg.nii.gz")
    return np.asanyarray(image.dataobj), json.loads((output / f"{name}_dseg.json").read_text())


def test_a_label_map_is_what_the_steps_make_of_the_plain_one(made, tmp_path):
    root, name, bundle = made
    record, _ = run_on(root, bundle, tmp_path, *STEPS)
    found_XYZ, said = labels_and_record(tmp_path, name)
    wanted_XYZ, plain = labels_and_record(root / "plain", name)
    wanted_XYZ = np.asfortranarray(wanted_XYZ).copy("F")
    spacing = said["geometry"]["native"]["spacing_mm"]
    names = {int(number): text for number, text in said["labels"].items()}
    removed = postprocess(wanted_XYZ, read_steps(STEPS, names), np.prod(spacing) / 1000)
    assert removed
    assert np.array_equal(found_XYZ, wanted_XYZ)
    assert [one["voxels"] for one in said["label_changes"]] == [one.voxels for one in removed]
    assert said["settings"]["postprocess"] == list(STEPS)
    assert said["dice"] != plain["dice"]
    assert "postprocess" in record.seconds
    assert plain["label_changes"] == []
    for label in ("1", "2"):
        assert said["statistics"][label]["voxels"] == np.count_nonzero(found_XYZ == int(label))


def test_a_bundles_own_steps_are_done(made, tmp_path):
    root, name, bundle = made
    shutil.copytree(bundle, tmp_path / "bundle")
    config = json.loads((tmp_path / "bundle/configs/inference.json").read_text())
    config["postprocessing"] = {"_target_": "Compose", "transforms": [
        {"_target_": "Invertd", "keys": "pred"},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"},
    ]}  # fmt: skip
    (tmp_path / "bundle/configs/inference.json").write_text(json.dumps(config))
    run_on(root, tmp_path / "bundle", tmp_path / "own")
    run_on(root, bundle, tmp_path / "asked", "largest")
    own, asked = (tmp_path / each / f"{name}_dseg.nii.gz" for each in ("own", "asked"))
    assert own.read_bytes() == asked.read_bytes()
    _, said = labels_and_record(tmp_path / "own", name)
    assert said["settings"]["postprocess"] == ["largest"]
    assert said["label_changes"]
    assert said["postprocessing_ignored"] == []


def test_tiles_do_not_show(made, tmp_path):
    root, name, bundle = made
    run_on(root, bundle, tmp_path / "whole", *STEPS)
    run_on(root, bundle, tmp_path / "tiles", *STEPS, tile=(16, 16, 16))
    whole, tiles = (
        (tmp_path / each / f"{name}_dseg.nii.gz").read_bytes() for each in ("whole", "tiles")
    )
    assert whole == tiles


def test_other_steps_are_other_label_maps(made, tmp_path):
    root, _, bundle = made
    assert [run_on(root, bundle, tmp_path, *steps)[0].status
            for steps in ((), ("largest",), ("largest",), ())] == [
        "done", "done", "skipped", "done"]  # fmt: skip


def test_labels_to_have_are_a_step_at_the_end(made, tmp_path):
    root, name, bundle = made
    run_on(root, bundle, tmp_path, "largest", labels=("label 2",))
    found_XYZ, said = labels_and_record(tmp_path, name)
    assert said["settings"]["postprocess"] == ["largest", "keep:2"]
    assert set(np.unique(found_XYZ)) == {0, 2}
    assert [*said["statistics"]] == [*said["dice"]] == ["2"]
    record, _ = run_on(root, bundle, tmp_path, "largest", "keep:label 2")
    assert record.status == "skipped"


def test_the_report_says_what_was_done(made, tmp_path):
    root, _, bundle = made
    _, summary = run_on(root, bundle, tmp_path, "largest:1")
    page = Store().read(summary.report).decode()
    assert "largest:1" in page
    table = Store().read(summary.report.replace("report.html", "statistics.csv")).decode()
    assert table.startswith("case,label,name,voxels,volume_ml,surface_mm2,parts,")
    assert len(table.splitlines()) == 1 + len(summary.labels) - 1


def test_a_label_that_the_model_has_not_is_refused_before_work(made, tmp_path):
    root, _, bundle = made
    with pytest.raises(RequestError) as raised:
        run_on(root, bundle, tmp_path, "largest:gall bladder")
    assert raised.value.code == "postprocess_invalid"
    assert not list(tmp_path.iterdir())
