import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Policy
from unet_pipeline.networks.bundle_writer import standard_preprocessing
from unet_pipeline.phantoms import make_phantom, write_cohort
from unet_pipeline.records import Case
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store
from unet_pipeline.training.cases import (
    load_case,
    load_samples,
    median_spacing_mm,
    pass_gate,
)
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import header_of

STORE = Store()


@pytest.fixture
def cohort(tmp_path):
    write_cohort(STORE, str(tmp_path), 3, misaligned=True)
    return tmp_path


def cases_of(folder):
    return discover(STORE, str(folder / "images"), str(folder / "masks")).cases


def test_a_case_at_fault_is_left_out_with_its_reason(cohort):
    (cohort / "images/phantom-01.nii.gz").write_bytes(b"")
    lonely = Case("lonely", ("memory://x.nii.gz",))
    two_channels = Case("two", ("memory://x.nii.gz", "memory://y.nii.gz"), "memory://m.nii.gz")
    sound, faults = pass_gate(STORE, [*cases_of(cohort), lonely, two_channels])
    assert [item.case.name for item in sound] == ["phantom-02"]
    assert {name: error.code for name, error in faults} == {
        "phantom-01": "file_empty",
        "phantom-03": "origin_mismatch",
        "lonely": "pair_incomplete",
        "two": "channels_mismatch",
    }


def test_the_median_spacing_is_taken_along_world_axes():
    turned = [[0, 0, 3, 0], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]  # file axes: A, S, R
    grids = [
        VoxelGrid.of((4, 4, 4), np.diag([2.9999, 1.0, 2.0, 1.0])),
        VoxelGrid.of((4, 4, 4), turned),
        VoxelGrid.of((4, 4, 4), np.diag([-9.0, 9.0, 9.0, 1.0])),
    ]
    assert median_spacing_mm(grids) == (3.0, 1.0, 2.0)


def test_a_sample_is_normalised_and_lies_in_the_model_space(cohort):
    sound, _ = pass_gate(STORE, cases_of(cohort)[1:2])
    sample = load_case(STORE, sound[0], standard_preprocessing((3.0, 3.0, 4.0))).sample
    phantom = make_phantom(1, axcodes="LPS")
    assert sample.image_CXYZ.shape == (1, 32, 28, 24)
    assert sample.image_CXYZ.dtype == np.float32
    assert sample.labels_XYZ.shape == (32, 28, 24)
    assert abs(float(sample.image_CXYZ.mean())) < 0.1
    assert abs(float(sample.image_CXYZ.std()) - 1) < 0.1
    # The organs keep their volume in mm3: 4.5 mm3 per voxel of the file, 36 of the model.
    for label in (1, 2):
        share = np.sum(sample.labels_XYZ == label) * 36 / (np.sum(phantom.mask_XYZ == label) * 4.5)
        assert 0.9 < share < 1.1
    # In RAS the large organ (1) is on the right, the small one (2) on the left and in front.
    large, small = (np.argwhere(sample.labels_XYZ == label).mean(axis=0) for label in (1, 2))
    assert large[0] > 18 > 14 > small[0]
    assert small[1] > large[1]


def test_labels_that_are_no_labels_keep_a_case_out(tmp_path):
    phantom = make_phantom(0, (16, 16, 16), (6.0, 6.0, 6.0))
    header = header_of((16, 16, 16), phantom.affine, np.int16)
    for name, offset in (("good", 0), ("below", -1), ("above", 300)):
        STORE.write(f"{tmp_path}/images/{name}.nii.gz", encode_labels(phantom.image_XYZ, header))
        mask = phantom.mask_XYZ.astype(np.int16) + np.int16(offset)
        STORE.write(f"{tmp_path}/masks/{name}.nii.gz", encode_labels(mask, header))
    sound, _ = pass_gate(STORE, cases_of(tmp_path))
    loaded = dict(load_samples(STORE, sound, standard_preprocessing((6.0, 6.0, 6.0))))
    assert isinstance(loaded["below"], CaseError)
    assert {name: getattr(found, "code", "") for name, found in loaded.items()} == {
        "above": "labels_out_of_range",
        "below": "labels_out_of_range",
        "good": "",
    }


def test_a_mask_is_padded_as_its_image_is(tmp_path):
    write_cohort(STORE, str(tmp_path), 1)
    pad = {"_target_": "DivisiblePadd", "keys": "image", "k": 10}
    sound, _ = pass_gate(STORE, cases_of(tmp_path))
    sample = load_case(STORE, sound[0], [*standard_preprocessing((1.5, 1.5, 2.0)), pad]).sample
    assert sample.image_CXYZ.shape[1:] == sample.labels_XYZ.shape == (70, 60, 50)


def test_voxels_are_shown_to_the_gate_too(tmp_path):
    write_cohort(STORE, str(tmp_path), 2)
    header = header_of((64, 56, 48), make_phantom(0).affine, np.int16)
    flat = np.full((64, 56, 48), 7, np.int16)
    STORE.write(f"{tmp_path}/images/phantom-01.nii.gz", encode_labels(flat, header))
    sound, _ = pass_gate(STORE, cases_of(tmp_path))
    loaded = dict(load_samples(STORE, sound, standard_preprocessing((6.0, 6.0, 6.0))))
    assert loaded["phantom-01"].code == "image_constant"
    assert not isinstance(loaded["phantom-02"], CaseError)


def test_a_mask_is_put_right_if_that_is_asked_for(cohort):
    policy = Policy(fixes=frozenset({"resample-mask"}))
    sound, faults = pass_gate(STORE, cases_of(cohort), policy)
    assert faults == []
    case = load_case(STORE, sound[2], standard_preprocessing((3.0, 3.0, 4.0)), policy)
    assert case.mask_XYZ.shape == case.prepared.native.shape
    assert set(np.unique(case.mask_XYZ)) == {0, 1, 2}
    assert [one.role for one in case.inputs] == ["image0", "mask"]


def test_channels_of_one_file_are_those_of_several_and_the_first_case_says_how_many(tmp_path):
    phantom = make_phantom(3, shape=(32, 30, 24), spacing_mm=(2.0, 2.0, 3.0))
    image = phantom.image_XYZ.astype(np.float32)
    stacked = np.stack([image, image[::-1]], axis=3)
    files = {"b.nii.gz": stacked, "c.nii.gz": np.tile(stacked, 2), "d.nii.gz": image,
             "a_0000.nii.gz": image, "a_0001.nii.gz": image[::-1]}  # fmt: skip
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name, values in files.items():
        nib.save(nib.Nifti1Image(values, phantom.affine), tmp_path / "images" / name)
    for name in "abcd":
        mask = nib.Nifti1Image(phantom.mask_XYZ, phantom.affine)
        nib.save(mask, tmp_path / "masks" / f"{name}.nii.gz")
    cases = cases_of(tmp_path)
    sound, faults = pass_gate(STORE, cases)
    assert [item.channels for item in sound] == [2, 2]
    assert {name: error.code for name, error in faults} == {
        "c": "not_3d", "d": "channels_mismatch",
    }  # fmt: skip
    parts, whole = (load_case(STORE, item, standard_preprocessing((4, 4, 4))) for item in sound)
    np.testing.assert_array_equal(whole.sample.image_CXYZ, parts.sample.image_CXYZ)
    np.testing.assert_array_equal(whole.sample.labels_XYZ, parts.sample.labels_XYZ)
    first, *_ = pass_gate(STORE, cases[1:2])[0]
    assert first.channels == 2
    one = pass_gate(STORE, cases[1:3], Policy(file_channels=4))
    assert [item.case.name for item in one[0]] == ["c"]
    one = pass_gate(STORE, cases[1:2], Policy(volume=1))
    assert one[0][0].channels == 1
