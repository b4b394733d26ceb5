"""Runs that say how sure the network is: in any tiles, after steps, as a map; labels stay."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from cohorts import write_tiny
from command_line import cli

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.confidence import CONFIDENCE, MarginCounter, confidence_of, sums_of
from unet_pipeline.evaluation.prediction import CALIBRATION, LEAST_CASES
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.training.dice_calibration import calibrate_dice

MAP = "_dseg_confidence.nii.gz"
OTHER = f"sha256:{64 * '0'}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("confidence")
    (name,) = write_tiny(Store(), str(root), 1)
    return root, name, random_bundle(root / "bundle", features=(4, 8))


@pytest.fixture(scope="module")
def whole(made):
    """The record and the label map of a volume in one piece, with the map."""
    root, name, bundle = made
    return run_on(root, bundle, root / "whole", name, confidence="map")


def run_on(root, bundle, output, name, *, tile=None, **asked):
    run = open_segment(
        SegmentSettings(
            images=f"{root}/images", model=bundle, output=str(output),
            windows=WindowSettings(tile=tile), cluster=ClusterSettings(kind="serial", threads=1),
            **asked,
        )
    )  # fmt: skip
    (record,) = run_segment(run, SerialExecutor())
    assert record.status == "done", record.message
    return json.loads((output / f"{name}_dseg.json").read_text())


def confidence_in(said):
    return {
        label: {name: values[name] for name in CONFIDENCE if name in values}
        for label, values in said["statistics"].items()
    }


def read(output, name, ending="_dseg.nii.gz"):
    return np.asanyarray(nib.load(output / f"{name}{ending}").dataobj)


def of_map(output, name):
    """What the numbers are by the two files that were written."""
    labels_XYZ = np.asfortranarray(read(output, name))
    margins_XYZ = np.asfortranarray(np.rint(255 * read(output, name, MAP)).astype(np.uint8))
    box = Box.whole(labels_XYZ.shape)
    counter = MarginCounter(labels_XYZ, box, box.shape, 3, keep=False)
    counter.add(box, margins_XYZ)
    return confidence_of(sums_of(labels_XYZ, [counter.result()]), (1, 2))


def test_the_numbers_are_those_of_label_map_and_confidence_map(made, whole):
    root, name, _ = made
    assert confidence_in(whole) == of_map(root / "whole", name)
    assert all(0 < value < 1 for one in confidence_in(whole).values() for value in one.values())
    image, labels = (nib.load(root / "whole" / f"{name}{end}") for end in (MAP, "_dseg.nii.gz"))
    assert np.array_equal(image.affine, labels.affine)
    assert image.header.get_data_dtype() == np.uint8
    assert whole["settings"]["confidence"] == "map"


@pytest.mark.parametrize("tile", [None, (16, 16, 16), (9, 40, 21)])
def test_tiles_and_the_map_change_neither_numbers_nor_labels(made, whole, tmp_path, tile):
    root, name, bundle = made
    said = run_on(root, bundle, tmp_path, name, tile=tile)
    assert confidence_in(said) == confidence_in(whole)
    assert said["output"]["sha256"] == whole["output"]["sha256"]
    assert not (tmp_path / f"{name}{MAP}").exists()
    tiled = run_on(root, bundle, tmp_path, name, tile=tile, confidence="map")
    written = (tmp_path / f"{name}{MAP}").read_bytes()
    assert written == (root / "whole" / f"{name}{MAP}").read_bytes()
    assert confidence_in(tiled) == confidence_in(whole)


def test_it_is_left_out_on_request_and_nothing_else_changes(made, whole, tmp_path):
    root, name, bundle = made
    said, usual = (run_on(root, bundle, tmp_path / one, name, confidence=one)
                   for one in ("none", "numbers"))  # fmt: skip
    assert confidence_in(said) == {"1": {}, "2": {}}
    assert said["output"]["sha256"] == whole["output"]["sha256"]
    assert said["settings_digest"] == usual["settings_digest"] != whole["settings_digest"]
    assert "confidence" not in usual["settings"]


def test_after_steps_it_is_that_of_the_label_map_as_it_is_written(made, tmp_path):
    root, name, bundle = made
    steps = ("largest:1", "fill-holes:2", "merge:2:1")
    numbers = run_on(root, bundle, tmp_path / "numbers", name, postprocess=steps, tile=(16, 16, 16))
    run_on(root, bundle, tmp_path / "map", name, postprocess=steps, confidence="map")
    wanted = of_map(tmp_path / "map", name)
    assert set(wanted) == {"1"}
    assert confidence_in(numbers) == wanted


def test_a_map_is_ours_and_goes_with_its_label_map(made, tmp_path):
    """It is no image of the next run, and none is left beside a label map of another run."""
    root, name, bundle = made
    beside = Path(shutil.copytree(root / "images", tmp_path / "images"))
    run_on(tmp_path, bundle, beside, name, confidence="map")
    assert (beside / f"{name}{MAP}").exists()
    assert [case.name for case in discover(Store(), str(beside), None).cases] == [name]
    run_on(tmp_path, bundle, beside, name)
    assert not (beside / f"{name}{MAP}").exists()


def test_a_bundle_learns_from_scored_label_maps_what_dice_to_expect(made, whole, tmp_path):
    """Of records with a Dice; and says so where weights, windows and steps are the same."""
    root, name, bundle = made
    own = shutil.copytree(bundle, tmp_path / "bundle")
    usual = run_on(root, bundle, tmp_path / "usual", name)
    border = usual["statistics"]["1"]["confidence_border"]
    (tmp_path / "scored").mkdir()
    for index in range(LEAST_CASES):
        away = (index - LEAST_CASES / 2) / 1000
        statistics = {"1": {"confidence_border": border + away}, "2": {"voxels": 0}}
        said = {**usual, "case": f"case {index}", "statistics": statistics,
                "dice": {"1": 0.7 + away, "2": None}}  # fmt: skip
        (tmp_path / "scored" / f"{index}_dseg.json").write_text(json.dumps(said))
    (tmp_path / "scored" / "other_dseg.json").write_text(json.dumps({**said, "weights": OTHER}))
    done = cli("bundle", "confidence", own, tmp_path / "scored")
    assert f"label 1 │ {LEAST_CASES} cases, from 0.6" in done.stdout, done.stderr
    found = load_bundle(str(own), Store()).dice_calibration
    assert found.cohort["cases"] == LEAST_CASES
    assert "calibrated on 20 cases: label 1" in cli("bundle", "inspect", own).stdout
    again = run_on(root, str(own), tmp_path / "again", name)
    one = again["statistics"]["1"]
    assert one["predicted_dice"] == pytest.approx(0.7, abs=0.002)
    assert one["predicted_dice_low"] <= one["predicted_dice"] <= one["predicted_dice_high"]
    assert "predicted_dice" not in again["statistics"]["2"]
    assert again["output"]["sha256"] == whole["output"]["sha256"]
    assert again["settings_digest"] == usual["settings_digest"]
    largest = run_on(root, str(own), tmp_path / "steps", name, postprocess=("largest",))
    assert "predicted_dice" not in largest["statistics"]["1"]


def test_too_few_scored_label_maps_are_refused_by_name(made, tmp_path):
    root, name, bundle = made
    run_on(root, bundle, tmp_path / "out", name)
    own = shutil.copytree(bundle, tmp_path / "bundle")
    with pytest.raises(RequestError) as raised:
        calibrate_dice(load_bundle(str(own), Store()), Store(), str(tmp_path / "out"))
    assert raised.value.code == "calibration_impossible"


def test_a_calibration_that_is_none_is_refused_by_name(made, tmp_path):
    root, name, bundle = made
    own = shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / CALIBRATION).write_text("[]")
    with pytest.raises(RequestError) as raised:
        run_on(root, str(own), tmp_path / "out", name)
    assert raised.value.code == "bundle_invalid"
    assert not (tmp_path / "out").exists()
