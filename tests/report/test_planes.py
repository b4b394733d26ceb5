import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_pipeline.errors import CaseError
from unet_pipeline.report.planes import VIEWS, busiest_voxel, grey_levels, picture, to_ras

AXIAL, CORONAL, SAGITTAL = VIEWS


def numbered_volume():
    """A volume of 2 x 2 x 2 voxels; the digits of a voxel are its x, y and z."""
    x, y, z = np.indices((2, 2, 2))
    return 100 * x + 10 * y + z


def test_pictures_in_radiological_convention():
    volume_XYZ = numbered_volume()
    # Axial: columns from right (x = 1) to left, rows from front (y = 1) to back.
    assert picture(volume_XYZ, AXIAL, (0, 0, 0)).tolist() == [[110, 10], [100, 0]]
    # Coronal: columns from right to left, rows from head (z = 1) to foot.
    assert picture(volume_XYZ, CORONAL, (0, 0, 0)).tolist() == [[101, 1], [100, 0]]
    # Sagittal: columns from front to back, rows from head to foot.
    assert picture(volume_XYZ, SAGITTAL, (0, 0, 0)).tolist() == [[11, 1], [10, 0]]


def test_picture_takes_the_slice_of_the_voxel():
    volume_XYZ = numbered_volume()
    assert set(picture(volume_XYZ, AXIAL, (0, 0, 1)).ravel() % 10) == {1}
    assert set(picture(volume_XYZ, CORONAL, (0, 1, 0)).ravel() // 10 % 10) == {1}
    assert set(picture(volume_XYZ, SAGITTAL, (1, 0, 0)).ravel() // 100) == {1}


def test_a_large_plane_is_thinned_and_not_copied():
    volume_XYZ = np.zeros((5000, 3, 768), np.uint8)
    coronal_HW = picture(volume_XYZ, CORONAL, (0, 0, 0))
    assert coronal_HW.shape == (768, 715)
    assert np.shares_memory(coronal_HW, volume_XYZ)


def test_to_ras_turns_and_flips():
    volume = numbered_volume()
    stored = np.transpose(volume, (2, 0, 1))[:, ::-1, :]  # Superior, Left, Anterior
    assert np.array_equal(to_ras(stored, ("S", "L", "A")), volume)


@pytest.mark.parametrize("axcodes", ["RAA", "RA", "XAS", "RASI"])
def test_axis_codes_must_name_each_pair_once(axcodes):
    with pytest.raises(CaseError) as caught:
        to_ras(np.zeros((2, 2, 2)), tuple(axcodes))
    assert caught.value.code == "figure_axes"


def test_busiest_voxel_is_the_fullest_slice_of_each_axis():
    labels_XYZ = np.zeros((6, 5, 4), np.uint8)
    labels_XYZ[2, 1, :3] = 1
    labels_XYZ[:4, 3, 2] = 7
    assert busiest_voxel(labels_XYZ) == (2, 3, 2)


def test_busiest_voxel_is_in_the_middle_of_a_box():
    labels_XYZ = np.zeros((9, 9, 9), np.uint8)
    labels_XYZ[2:7, 3:6, 4] = 1
    assert busiest_voxel(labels_XYZ) == (4, 4, 4)


def test_busiest_voxel_of_nothing():
    assert busiest_voxel(np.zeros((3, 2, 1))) is None


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2)))
def test_busiest_voxel_does_not_depend_on_memory_order(labels_XYZ):
    found = busiest_voxel(labels_XYZ)
    assert busiest_voxel(np.asfortranarray(labels_XYZ)) == found
    if found is not None:
        counts = [np.count_nonzero(labels_XYZ, axis=others) for others in ((1, 2), (0, 2), (0, 1))]
        assert [c[i] for c, i in zip(counts, found, strict=True)] == [c.max() for c in counts]


def grey(image_HW, mask_HW=None):
    mask_HW = np.zeros(image_HW.shape, np.uint8) if mask_HW is None else mask_HW
    (grey_HW,) = grey_levels([image_HW], [mask_HW])
    return grey_HW


def ct_like():
    """A slice of air, fat and muscle with noise, and a small piece of bone, in Hounsfield units."""
    rng = np.random.default_rng(0)
    image_HW = rng.normal(-1000, 10, (100, 100))
    image_HW[10:90, 10:90] = rng.normal(-100, 15, (80, 80))
    image_HW[20:80, 20:80] = rng.normal(50, 15, (60, 60))
    image_HW[45:55, 45:55] = rng.normal(900, 50, (10, 10))
    return image_HW


def test_soft_tissue_has_contrast_in_a_ct():
    grey_HW = grey(ct_like())
    fat, muscle = grey_HW[15, 20:80].mean(), grey_HW[30, 20:80].mean()
    assert muscle - fat > 60
    assert grey_HW[2].max() == 0  # air
    assert grey_HW[50, 50] == 255  # bone is clipped, as in any soft-tissue window


def test_segmented_bone_is_not_clipped():
    mask_HW = np.zeros((100, 100), np.uint8)
    mask_HW[45:55, 45:55] = 1
    bone = grey(ct_like(), mask_HW)[45:55, 45:55]
    assert np.count_nonzero(bone == 255) <= 10
    assert len(np.unique(bone)) > 10


def test_nan_and_infinity_are_black():
    image_HW = np.arange(100, dtype=np.float32).reshape(10, 10)
    image_HW[0, 0], image_HW[0, 1], image_HW[9, 9] = np.nan, np.inf, -np.inf
    grey_HW = grey(image_HW)
    assert (grey_HW[0, 0], grey_HW[0, 1], grey_HW[9, 9]) == (0, 0, 0)
    assert grey_HW[9, 8] == 255


@pytest.mark.parametrize("value", [0, -7, 3.5, 1e300, 1e-320])
def test_a_constant_image_is_mid_grey(value):
    assert set(grey(np.full((4, 3), value)).flat) == {128}


def test_nothing_finite_is_black():
    assert set(grey(np.full((4, 3), np.nan)).flat) == {0}


def test_two_values_are_black_and_white():
    assert grey(np.array([[0, 1], [1, 1]])).tolist() == [[0, 255], [255, 255]]


@given(
    arrays(
        st.sampled_from([np.float64, np.float32, np.int16, np.uint64, np.bool_]),
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
    )
)
def test_brighter_is_never_darker(image_HW):
    grey_HW = grey(image_HW)
    finite = np.isfinite(image_HW)
    in_order = grey_HW[finite][np.argsort(image_HW[finite], kind="stable")]
    assert (np.diff(in_order.astype(int)) >= 0).all()
    assert not grey_HW[~finite].any()
