import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.inspect import read_mask
from unet_pipeline.gate.voxels import check_body, check_mask_voxels
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.disk_arrays import Room
from unet_pipeline.volume.grid import VoxelGrid

SPACING = (1.0, 1.0, 1.0)


def codes(mask, declared=None, **options):
    found = check_mask_voxels(mask, declared, SPACING, **options)
    return [(finding.code, finding.severity) for finding in found]


def block(shape=(12, 12, 12), value=1, dtype=np.uint8):
    mask = np.zeros(shape, dtype)
    mask[4:8, 4:8, 4:8] = value
    return mask


def test_a_sound_mask_has_no_finding():
    assert codes(block()) == []
    assert codes(block(), declared={0, 1}) == []
    assert codes(block(dtype=np.float32)) == []


def test_values_within_a_thousandth_of_whole_numbers_are_labels():
    written = block(dtype=np.float32)
    written[written == 1] = np.float32(0.9999999)
    written[5, 5, 5] = np.float32(254.99997)
    assert codes(written, declared={0, 1, 255}) == []
    written[5, 5, 5] = 1.002
    assert codes(written, declared={0, 1}) == [("mask_not_integer", "fail")]
    assert codes(block(value=1e30, dtype=np.float64)) == [("mask_not_integer", "fail")]


def test_labels_that_nibabel_scaled_into_integers_are_labels(tmp_path):
    labels = block(dtype=np.float32)
    labels[5, 5, 5] = 2
    image = nib.Nifti1Image(labels, np.eye(4))
    image.set_data_dtype(np.uint8)  # 2 becomes 255 steps of 2 / 255, and 1 is read as 0.996
    nib.save(image, tmp_path / "mask.nii.gz")
    grid = VoxelGrid.of(labels.shape, np.eye(4))
    mask = read_mask(Store(), str(tmp_path / "mask.nii.gz"), grid, Policy(), Room(10**9))
    assert np.abs(nib.load(tmp_path / "mask.nii.gz").get_fdata() - labels).max() > 0.003
    assert codes(mask.values_XYZ, declared={0, 1, 2}) == []
    np.testing.assert_array_equal(mask.labels_XYZ, labels)


@pytest.mark.parametrize(
    ("mask", "declared", "code", "severity"),
    [
        (block(value=0.5, dtype=np.float32), None, "mask_not_integer", "fail"),
        (block(value=np.inf, dtype=np.float32), None, "mask_not_integer", "fail"),
        (block(value=np.nan, dtype=np.float32), None, "mask_not_integer", "fail"),
        (block(value=3), {0, 1, 2}, "labels_undeclared", "fail"),
        (block(value=-1, dtype=np.int16), None, "labels_undeclared", "fail"),
        (block(value=0), None, "mask_empty", "warn"),
        (1 - block(), None, "mask_at_border", "warn"),
    ],
)
def test_each_fault_has_its_code(mask, declared, code, severity):
    assert codes(mask, declared) == [(code, severity)]


def test_undeclared_labels_are_named():
    (finding,) = check_mask_voxels(block(value=3), {0, 1, 2}, SPACING)
    assert "64 mask voxels with the labels 3" in finding.found
    assert "labels 0 to 2" in finding.wanted


def test_a_structure_that_the_field_of_view_cuts_is_a_remark_with_the_face():
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[4:8, 4:8, 6:] = 1
    (finding,) = check_mask_voxels(mask, None, (2.0, 3.0, 1.0), axcodes=("L", "P", "S"))
    assert (finding.code, finding.severity) == ("mask_at_border", "pass")
    assert "superior (96 mm" in finding.found  # 16 voxels of 2 x 3 mm


def test_one_slice_has_no_faces_of_its_own():
    mask = np.zeros((12, 12, 1), np.uint8)
    mask[4:8, 4:8] = 1
    assert codes(mask) == []


def body_and_air():
    image = np.full((60, 60, 60), -1000, np.int16)
    image[5:35, 5:35, 5:55] = 40
    return image


def test_a_part_far_outside_the_body_is_found():
    mask = np.zeros((60, 60, 60), np.uint8)
    mask[10:15, 10:15, 10:15] = 1
    assert check_body(body_and_air(), mask, SPACING) == []
    mask[55:58, 5:8, 20:23] = 2  # 20 voxels beyond the body
    (finding,) = check_body(body_and_air(), mask, (1.5, 1.5, 1.5))
    assert (finding.code, finding.severity) == ("label_outside_body", "warn")
    assert "1 of 2 parts" in finding.found
    assert finding.residual_mm == pytest.approx(31.5)
    assert check_body(body_and_air(), mask, (0.5, 0.5, 0.5)) == []  # near, in mm


def test_thick_slices_are_not_thinned_away():
    image = np.full((400, 400, 60), -1000, np.int16)
    image[50:350, 50:350, 7:] = 40
    mask = np.zeros(image.shape, np.uint8)
    mask[200:230, 200:230, 7:9] = 1  # in the body's first slices, of 8 mm
    assert check_body(image, mask, (0.7, 0.7, 8.0)) == []


def test_noise_in_air_is_no_body():
    image, mask = body_and_air(), np.zeros((60, 60, 60), np.uint8)
    image[40::9, ::9, ::9] = 40
    mask[55:58, 5:8, 20:23] = 1
    assert [f.code for f in check_body(image, mask, (1.5, 1.5, 1.5))] == ["label_outside_body"]


def test_without_air_there_is_no_opinion():
    mask = np.zeros((60, 60, 60), np.uint8)
    mask[0, 0, 0] = 1
    assert check_body(np.full((60, 60, 60), 7), mask, SPACING) == []
    noise = np.random.default_rng(0).normal(100, 1, (60, 60, 60))
    assert check_body(noise, mask, SPACING) == []


def test_a_thinned_mask_loses_no_label():
    image = np.repeat(np.repeat(np.repeat(body_and_air(), 2, 0), 2, 1), 2, 2)
    mask = np.zeros(image.shape, np.uint8)
    mask[115, 11, 41] = 1  # one voxel, at an odd place
    assert [f.code for f in check_body(image, mask, SPACING)] == ["label_outside_body"]


def test_no_real_mask_lies_outside_its_body(shared_data):
    from planting import image_of, sound_pairs, unpacked

    for name, image, mask in sound_pairs(shared_data):
        volume = image_of(unpacked(image.read_bytes()))
        values = np.asanyarray(volume.dataobj).reshape(volume.shape[:3])
        labels = np.asanyarray(image_of(mask.read_bytes()).dataobj).reshape(values.shape)
        assert check_body(values, labels, volume.header.get_zooms()[:3]) == [], name
