"""The gate in a segmentation run: what it may put right, what it says in the sidecar."""

import json

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, GateSettings, SegmentSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.storage.store import Store

SERIAL = ClusterSettings(kind="serial", threads=1)


def run(images, masks, output, *, model="phantom", **gate):
    settings = SegmentSettings(
        images=str(images), masks=masks and str(masks), model=str(model), output=str(output),
        cluster=SERIAL, gate=GateSettings(**gate), require_masks=True,
    )  # fmt: skip
    opened = open_segment(settings)
    return {record.case: record for record in run_segment(opened, SerialExecutor())}


def sidecar_of(record):
    return json.loads(Store().read(record.output.replace(".nii.gz", ".json")))


@pytest.fixture
def one(tmp_path):
    (name,) = write_tiny(Store(), str(tmp_path), 1)
    return tmp_path, name, tmp_path / "images", tmp_path / "masks"


def change_mask(masks, name, change):
    path = masks / f"{name}.nii.gz"
    nib.save(change(nib.load(path)), path)


def test_a_mask_in_another_order_is_put_right_on_request_and_dice_is_the_same(one):
    folder, name, images, masks = one
    before = run(images, masks, folder / "a")[name]
    turn = np.array([[2, -1], [0, 1], [1, 1]])
    change_mask(masks, name, lambda image: image.as_reoriented(turn))
    refused = run(images, masks, folder / "b")[name]
    assert (refused.status, refused.code) == ("quarantined", "axes_reordered")
    after = run(images, masks, folder / "b", remedies=("reorient",))[name]
    assert after.status == "done"
    assert after.dice == before.dice
    assert sidecar_of(after)["gate"]["fixed"] == ["mask: reorient"]
    assert sidecar_of(before)["gate"]["fixed"] == []


def test_remedies_are_settings_that_a_label_map_depends_on(one):
    folder, name, images, masks = one
    run(images, masks, folder / "a")
    assert run(images, masks, folder / "a")[name].status == "skipped"
    assert run(images, masks, folder / "a", remedies=("reorient",))[name].status == "done"


def test_a_flipped_mask_is_flagged_and_the_case_is_done(one):
    folder, name, images, masks = one

    def flip(image):
        array = np.asanyarray(image.dataobj)[:, ::-1]
        return nib.Nifti1Image(np.ascontiguousarray(array), image.affine, image.header)

    change_mask(masks, name, flip)
    assert run(images, masks, folder / "a")[name].code == ""
    flagged = run(images, masks, folder / "b", content=True)[name]
    assert (flagged.status, flagged.code) == ("done", "content_doubtful")
    assert "flipped along axis 2" in flagged.message
    assert sidecar_of(flagged)["gate"]["verdict"] == "warn"
    again = run(images, masks, folder / "b", content=True)[name]
    assert (again.status, again.code) == ("skipped", "content_doubtful")


def test_an_image_of_one_value_and_labels_of_another_network_are_refused(one):
    folder, name, images, masks = one

    def renumbered(image):
        array = 9 * (np.asanyarray(image.dataobj) > 0).astype(np.uint8)
        return nib.Nifti1Image(array, image.affine, image.header)

    change_mask(masks, name, renumbered)
    assert run(images, masks, folder / "a")[name].code == "labels_undeclared"
    path = images / f"{name}.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, 7, np.int16), image.affine), path)
    assert run(images, None, folder / "b")[name].code == "image_constant"
    assert not list((folder / "b").glob("*.json"))


def test_channels_on_other_grids_are_brought_onto_the_first(tmp_path):
    """The second channel holds world coordinates: linear interpolation gives them back exactly."""
    rng = np.random.default_rng(0)
    first = nib.Nifti1Image(rng.normal(0, 100, (20, 20, 20)).astype(np.float32), np.eye(4))
    coarse = np.diag([2.0, 2.5, 4.0, 1.0])
    coarse[:3, 3] = -3
    world = np.indices((16, 12, 8))[0] * 2.0 - 3
    second = nib.Nifti1Image(world.astype(np.float32), coarse)
    onto = np.indices((20, 20, 20))[0].astype(np.float32)
    sound = nib.Nifti1Image(onto, np.eye(4))
    images = tmp_path / "images"
    images.mkdir()
    for name, other in (("apart", second), ("sound", sound)):
        nib.save(first, images / f"{name}_0000.nii.gz")
        nib.save(other, images / f"{name}_0001.nii.gz")
    bundle = random_bundle(tmp_path / "bundle", channels=2, features=(4, 8), roi_size=(16, 16, 16))
    refused = run(images, None, tmp_path / "a", model=bundle)
    assert refused["apart"].code == "shape_mismatch"
    records = run(images, None, tmp_path / "b", model=bundle, remedies=("resample-channels",))
    assert sidecar_of(records["apart"])["gate"]["fixed"] == ["channel 2: resample-channels"]
    apart, sound = (nib.load(records[name].output) for name in ("apart", "sound"))
    np.testing.assert_array_equal(np.asanyarray(apart.dataobj), np.asanyarray(sound.dataobj))


def test_the_form_that_was_asked_for_places_the_image(one):
    folder, name, images, masks = one
    moved = nib.load(masks / f"{name}.nii.gz").affine.copy()
    moved[2, 3] += 8
    for place in (images, masks):
        path = place / f"{name}.nii.gz"
        image = nib.load(path)
        image.set_qform(moved, 1)
        image.set_sform(image.affine, 1)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), path)
    assert run(images, masks, folder / "a")[name].code == "forms_conflict"
    for form, offset in (("qform", 8), ("sform", 0)):
        record = run(images, masks, folder / form, remedies=(form,))[name]
        sidecar = sidecar_of(record)
        assert sidecar["gate"]["fixed"] == [f"image: {form}", f"mask: {form}"]
        found = sidecar["geometry"]["native"]["affine"][2][3]
        assert found == pytest.approx(moved[2, 3] - 8 + offset)
