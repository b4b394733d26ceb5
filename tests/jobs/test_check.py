"""The check of a cohort: verdicts, report, pictures, and fixed files that pass."""

import json

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import CheckSettings, GateSettings, StorageSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.check import close_check, open_check, run_check
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.report.check_table import reasons
from unet_pipeline.storage.store import Store


def checked(**settings):
    opened = open_check(CheckSettings(**settings))
    records = list(run_check(opened, SerialExecutor()))
    return {record.case: record for record in records}, close_check(opened, records, seconds=1.0)


@pytest.fixture
def cohort(tmp_path):
    """Five phantoms: sound, mask reordered, shifted, flipped in its voxels, its forms apart."""
    names = write_cohort(Store(), str(tmp_path / "scans"), 5)
    masks = {name: tmp_path / "scans" / "masks" / f"{name}.nii.gz" for name in names}
    _, reordered, shifted, flipped, apart = names

    image = nib.load(masks[reordered])
    nib.save(image.as_reoriented(np.array([[1, 1], [0, -1], [2, 1]])), masks[reordered])
    image = nib.load(masks[shifted])
    affine = image.affine.copy()
    affine[0, 3] += 4
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), masks[shifted])
    image = nib.load(masks[flipped])
    array = np.asanyarray(image.dataobj)[::-1]
    nib.save(nib.Nifti1Image(array, image.affine, image.header), masks[flipped])
    image = nib.load(masks[apart])
    moved = image.affine.copy()
    moved[1, 3] += 30
    image.set_sform(image.affine, 1)
    image.set_qform(moved, 1)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), masks[apart])
    return tmp_path, names


def places(folder) -> dict[str, str]:
    return {"images": str(folder / "scans/images"), "masks": str(folder / "scans/masks")}


HEADERS = GateSettings()
CONTENT = GateSettings(content=True)


def test_headers_tell_what_headers_can(cohort):
    folder, names = cohort
    records, summary = checked(**places(folder), gate=HEADERS)
    assert [records[name].verdict for name in names] == ["pass", "fail", "fail", "pass", "fail"]
    assert [reasons(records[name]) for name in names] == [
        [], ["axes_reordered"], ["origin_mismatch"], [], ["forms_conflict"],
    ]  # fmt: skip
    assert records[names[2]].residual_mm == pytest.approx(4, abs=1e-3)
    assert summary.counts == {"pass": 2, "warn": 0, "fail": 3}
    assert summary.bytes_read == sum(record.bytes_read for record in records.values()) > 0
    assert (summary.report, summary.table) == ("", "")


def test_voxels_tell_the_rest_and_the_report_shows_it(cohort):
    folder, names = cohort
    records, summary = checked(**places(folder), gate=CONTENT, output=str(folder / "out"))
    assert records[names[3]].verdict == "warn"
    assert "flipped along axis 1" in records[names[3]].message
    assert records[names[0]].verdict == "pass"
    page = (folder / "out/runs" / summary.run_id / "check.html").read_text()
    assert page.count("data:image/png") == 4
    assert "origin_mismatch" in page
    table = Store().read(summary.table).decode()
    assert table.count("\r\n") == 6
    assert "content_doubtful" in table


def test_what_can_be_put_right_is_written_and_then_passes(cohort):
    folder, names = cohort
    remedies = ("reorient", "resample-mask", "sform")
    gate = GateSettings(remedies=remedies)
    records, summary = checked(**places(folder), gate=gate, fix=str(folder / "fixed"))
    assert [records[name].verdict for name in names] == ["pass"] * 5
    assert [records[name].fixed for name in names] == [
        (), ("mask: reorient",), ("mask: resample-mask",), (), ("mask: sform",),
    ]  # fmt: skip
    assert summary.counts["fail"] == 0
    allowed = StorageSettings(allow=(str(folder),))  # sound files stay where they are
    again, _ = checked(images=str(folder / "fixed/manifest.jsonl"), gate=HEADERS, storage=allowed)
    assert [again[name].verdict for name in names] == ["pass"] * 5
    assert not any(again[name].fixed for name in names)

    note = json.loads((folder / "fixed" / f"{names[1]}.json").read_text())
    assert note["fixed"] == ["mask: reorient"]
    image = nib.load(note["originals"]["image"])
    wanted = nib.load(note["originals"]["mask"])
    found = nib.load(note["files"]["mask"])
    np.testing.assert_array_equal(found.affine, image.affine)
    np.testing.assert_array_equal(
        np.asanyarray(nib.as_closest_canonical(found).dataobj),
        np.asanyarray(nib.as_closest_canonical(wanted).dataobj),
    )
    assert note["files"]["image"] == note["originals"]["image"]  # what needed nothing is not copied


def test_only_what_was_asked_for_is_put_right(cohort):
    folder, names = cohort
    gate = GateSettings(remedies=("reorient",))
    records, _ = checked(**places(folder), gate=gate, fix=str(folder / "fixed"))
    assert records[names[1]].verdict == "pass"
    assert records[names[2]].verdict == records[names[4]].verdict == "fail"
    listed = (folder / "fixed/manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["case"] for line in listed] == [names[0], names[1], names[3]]


def test_channels_and_labels_are_held_against_a_bundle(cohort):
    folder, names = cohort
    where = places(folder)
    two = f"{where['images']}/{names[0]}.nii.gz"
    (folder / "two.csv").write_text(f"case,image\ntwo,{two};{two}\n")
    records, _ = checked(images=str(folder / "two.csv"), model="phantom", gate=HEADERS)
    assert records["two"].codes[0] == "channels_mismatch"
    path = folder / "scans/masks" / f"{names[0]}.nii.gz"
    image = nib.load(path)
    array = np.asanyarray(image.dataobj).astype(np.uint8)
    array[array == array.max()] = 77
    nib.save(nib.Nifti1Image(array, image.affine, image.header), path)
    records, _ = checked(**where, model="phantom", gate=CONTENT)
    assert records[names[0]].codes[0] == "labels_undeclared"
    assert "77" in records[names[0]].message


def test_a_wrong_request_stops_before_any_work(tmp_path):
    with pytest.raises(RequestError) as caught:
        open_check(CheckSettings(images=str(tmp_path / "nowhere")))
    assert caught.value.code == "folder_missing"
    with pytest.raises(ValueError, match="sform or qform, not both"):
        GateSettings(remedies=("sform", "qform"))
