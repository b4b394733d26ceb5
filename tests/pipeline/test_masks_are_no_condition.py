"""A reference mask is a reference: its faults cost the Dice, and only on request the case."""

import csv
import io
import json

import nibabel as nib
import numpy as np
import pytest
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import CheckSettings, ClusterSettings, SegmentSettings
from unet_pipeline.jobs.segment import close_segment, faults_of, open_segment, run_segment
from unet_pipeline.request import list_cohort
from unet_pipeline.storage.store import Store

SERIAL = ClusterSettings(kind="serial", threads=1)
STORE = Store()


def settings_of(folder, **changes):
    values = {"images": f"{folder}/images", "masks": f"{folder}/masks", "output": f"{folder}/out"}
    return SegmentSettings(**{**values, "model": "phantom", "cluster": SERIAL, **changes})


def run_all(folder, **changes):
    run = open_segment(settings_of(folder, **changes))
    records = [*faults_of(run), *run_segment(run, SerialExecutor())]
    summary = close_segment(run, records, seconds=1.0, workers=1)
    return {record.case: record for record in records}, summary


def states(records):
    return {
        name: (record.status, record.code, record.mask_code) for name, record in records.items()
    }


@pytest.fixture
def four(tmp_path):
    """A sound pair; a mask elsewhere in the world; one with halves of labels; and no mask."""
    sound, moved, halves, none = write_tiny(STORE, str(tmp_path), 4)
    masks = tmp_path / "masks"
    image = nib.load(masks / f"{moved}.nii.gz")
    (tmp_path / "as-it-was.nii.gz").write_bytes((masks / f"{moved}.nii.gz").read_bytes())
    affine = image.affine + np.array([[0, 0, 0, 20.0], [0] * 4, [0] * 4, [0] * 4])
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), masks / f"{moved}.nii.gz")
    image = nib.load(masks / f"{halves}.nii.gz")
    values = np.asanyarray(image.dataobj) + np.float32(0.5)
    nib.save(nib.Nifti1Image(values, image.affine), masks / f"{halves}.nii.gz")
    (masks / f"{none}.nii.gz").unlink()
    return tmp_path, (sound, moved, halves, none)


def test_faults_of_masks_cost_the_dice_and_are_named(four):
    folder, (sound, moved, halves, none) = four
    records, summary = run_all(folder)
    wanted = {
        sound: ("done", "", ""),
        moved: ("done", "", "origin_mismatch"),
        halves: ("done", "", "mask_not_integer"),
        none: ("done", "", "mask_missing"),
    }
    assert states(records) == wanted
    assert [name for name in wanted if records[name].dice] == [sound]
    assert moved in records[moved].mask_message
    codes = {"origin_mismatch": 1, "mask_not_integer": 1, "mask_missing": 1}
    assert json.loads(STORE.read(f"{folder}/{summary.report[len(str(folder)) + 1 : -11]}run.json"))[
        "mask_faults"
    ] == codes == dict(summary.mask_faults)  # fmt: skip
    assert "masks for 3 of 4" in STORE.read(summary.report).decode()
    assert "origin_mismatch" in STORE.read(summary.report).decode()
    rows = {
        row["case"]: row for row in csv.DictReader(io.StringIO(STORE.read(summary.table).decode()))
    }
    assert {name: row["mask_code"] for name, row in rows.items()} == {
        name: state[2] for name, state in wanted.items()
    }
    again, _ = run_all(folder)
    assert states(again) == {name: ("skipped", *state[1:]) for name, state in wanted.items()}
    (folder / "masks" / f"{moved}.nii.gz").write_bytes((folder / "as-it-was.nii.gz").read_bytes())
    repaired, _ = run_all(folder)
    assert repaired[moved].status == "done", "a mask that was put right is held against"
    assert repaired[moved].dice
    assert repaired[halves].status == "skipped"


def test_the_label_map_is_that_without_any_masks(four):
    folder, (_, moved, *_) = four
    image = f"{folder}/images/{moved}.nii.gz"
    with_masks, _ = run_all(folder, images=image)
    without, _ = run_all(folder, images=image, masks=None, output=f"{folder}/none")
    assert STORE.read(with_masks[moved].output) == STORE.read(without[moved].output)
    assert (with_masks[moved].mask_code, without[moved].mask_code) == ("origin_mismatch", "")


def test_where_masks_are_required_their_faults_cost_the_case(four):
    folder, (sound, moved, halves, none) = four
    records, _ = run_all(folder, require_masks=True)
    assert {name: (record.status, record.code) for name, record in records.items()} == {
        sound: ("done", ""),
        moved: ("quarantined", "origin_mismatch"),
        halves: ("quarantined", "mask_not_integer"),
        none: ("quarantined", "mask_missing"),
    }


def test_a_mask_that_is_cut_short_costs_the_dice(four):
    folder, (sound, *_) = four
    path = folder / "masks" / f"{sound}.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    records, _ = run_all(folder, images=f"{folder}/images/{sound}.nii.gz")
    ((status, code, mask_code),) = states(records).values()
    assert (status, code) == ("done", "")
    assert mask_code.startswith("file_")
    again, _ = run_all(folder, images=f"{folder}/images/{sound}.nii.gz")
    assert [record.status for record in again.values()] == ["skipped"]


def test_in_check_they_stay_faults(four):
    folder, (*_, none) = four
    values = {"images": f"{folder}/images", "masks": f"{folder}/masks"}
    cohort = list_cohort(CheckSettings(**values))
    assert [(case.name, error.code) for case, error in cohort.faults] == [(none, "mask_missing")]
    assert not list_cohort(settings_of(folder)).faults
