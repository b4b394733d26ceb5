"""Steps after the decision: by eye, against MONAI, and what a user may get wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.transforms import FillHoles, KeepLargestConnectedComponent, LabelFilter
from scipy import ndimage

from unet_pipeline.errors import RequestError
from unet_pipeline.postprocessing import postprocess, read_steps
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.volume.grid import VoxelGrid

NAMES = {0: "background", 1: "liver", 2: "spleen", 3: "left kidney"}
ONE_ML = 0.001  # volume of a voxel of 1 mm, in ml
maps = arrays(
    np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 3)
)


def after(labels_XYZ, *texts, voxel_ml=ONE_ML):
    changed_XYZ = np.asfortranarray(labels_XYZ, np.uint8).copy("F")
    removed = postprocess(changed_XYZ, read_steps(texts, NAMES), voxel_ml)
    return changed_XYZ, removed


def line(*labels):
    return np.array(labels, np.uint8).reshape(-1, 1, 1)


def test_the_largest_part_of_each_label_stays():
    kept, removed = after(line(1, 1, 0, 1, 2, 0, 2, 2, 0, 1), "largest")
    assert kept.ravel().tolist() == [1, 1, 0, 0, 0, 0, 2, 2, 0, 0]
    assert removed == (
        LabelChange("largest", 1, 2, -2, -0.002),
        LabelChange("largest", 2, 1, -1, -0.001),
    )


def test_other_labels_are_left_alone():
    kept, removed = after(line(1, 0, 1, 2, 0, 2), "largest:spleen")
    assert kept.ravel().tolist() == [1, 0, 1, 2, 0, 0]
    assert removed == (LabelChange("largest:2", 2, 1, -1, -0.001),)


def test_of_equal_parts_the_first_in_the_file_stays():
    kept, _ = after(line(1, 0, 1), "largest")
    assert kept.ravel().tolist() == [1, 0, 0]


def test_voxels_that_touch_at_a_corner_are_one_part():
    corner = np.zeros((2, 2, 2), np.uint8)
    corner[0, 0, 0] = corner[1, 1, 1] = 1
    kept, removed = after(corner, "largest")
    assert kept.sum() == 2
    assert removed == ()


@pytest.mark.parametrize(
    ("least", "left"), [("0.001ml", 6), ("0.002ml", 5), ("0.0021ml", 3), ("0.004 ml", 0)]
)
def test_a_part_of_exactly_the_size_stays(least, left):
    kept, _ = after(line(1, 0, 1, 1, 0, 2, 2, 2), f"remove-small:{least}")
    assert np.count_nonzero(kept) == left


def test_steps_are_done_in_their_order():
    twice = line(1, 0, 2, 2, 0, 1, 1, 1)
    assert after(twice, "remove-small:0.002ml:1", "largest")[1] == (
        LabelChange("remove-small:0.002ml:1", 1, 1, -1, -0.001),
    )


def sizes_of(labels_XYZ, label):
    """Number of each part of a label and its voxels, by SciPy."""
    numbers_XYZ, _ = ndimage.label(labels_XYZ == label, np.ones((3, 3, 3)))
    return numbers_XYZ, np.bincount(numbers_XYZ.ravel())


@given(maps)
def test_the_largest_part_is_monais(labels_XYZ):
    kept, _ = after(labels_XYZ, "largest")
    for label in (1, 2, 3):
        alone = torch.from_numpy(labels_XYZ == label)[None]
        theirs = np.asarray(KeepLargestConnectedComponent()(alone))[0] > 0
        sizes = np.sort(sizes_of(labels_XYZ, label)[1][1:])
        if len(sizes) < 2 or sizes[-2] < sizes[-1]:
            assert np.array_equal(kept == label, theirs)
        assert np.count_nonzero(kept == label) == theirs.sum()  # of two largest, either


@given(maps, st.integers(1, 30))
def test_parts_with_fewer_voxels_go(labels_XYZ, voxels):
    kept, removed = after(labels_XYZ, f"remove-small:{voxels * ONE_ML:.3f}ml")
    for label in (1, 2, 3):
        numbers_XYZ, sizes = sizes_of(labels_XYZ, label)
        large = sizes >= voxels
        assert np.array_equal(kept == label, large[numbers_XYZ] & (numbers_XYZ > 0))
    assert -sum(one.voxels for one in removed) == np.count_nonzero(kept != labels_XYZ)


@given(maps, st.sampled_from((None, (1,), (3, 1))))
def test_holes_are_filled_as_by_monai(labels_XYZ, labels):
    filled, changes = after(labels_XYZ, "fill-holes" + (f":{labels[0]}" if labels else ""))
    wanted = FillHoles(None if labels is None else labels[:1])(labels_XYZ[None].copy())[0]
    assert np.array_equal(filled, np.asarray(wanted))
    grown = {
        k: np.count_nonzero(filled == k) - np.count_nonzero(labels_XYZ == k) for k in (1, 2, 3)
    }
    for label, more in grown.items():
        assert sum(one.voxels for one in changes if one.label == label) == more


def test_a_hole_is_filled_and_one_that_is_open_at_a_corner_is_not():
    hollow = np.zeros((5, 5, 5), np.uint8)
    hollow[1:4, 1:4, 1:4] = 1
    hollow[2, 2, 2] = 2
    filled, changes = after(hollow, "fill-holes")
    assert filled[2, 2, 2] == 1
    assert changes == (
        LabelChange("fill-holes", 1, 1, 1, 0.001),
        LabelChange("fill-holes", 2, 0, -1, -0.001),
    )
    hollow[1, 1, 1] = 0
    assert after(hollow, "fill-holes")[1] == ()


@given(maps)
def test_labels_that_are_kept_are_monais(labels_XYZ):
    kept, changes = after(labels_XYZ, "keep:1,3")
    assert np.array_equal(kept, LabelFilter((1, 3))(labels_XYZ))
    assert -sum(one.voxels for one in changes) == np.count_nonzero(labels_XYZ == 2)


def test_labels_are_merged():
    merged, changes = after(line(1, 2, 3, 0, 2), "merge:spleen,3:liver")
    assert merged.ravel().tolist() == [1, 1, 1, 0, 1]
    assert [(one.label, one.voxels) for one in changes] == [(2, -2), (3, -1), (1, 3)]
    assert after(line(1, 2), "merge:3,1:1")[1] == ()


@given(maps, st.sampled_from(["largest", "remove-small:0.003ml", "largest:1,3", "keep:2",
                              "merge:1,2:3"]))  # fmt: skip
def test_a_second_time_changes_nothing(labels_XYZ, text):
    once, _ = after(labels_XYZ, text)
    again, removed = after(once, text)
    assert np.array_equal(once, again)
    assert removed == ()


def test_a_map_whose_last_axis_is_innermost_is_no_files():
    with pytest.raises(ValueError, match="innermost"):
        postprocess(np.ones((2, 3, 4), np.uint8), read_steps(["largest"], NAMES), ONE_ML)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("largest", "largest"), ("largest:left kidney, 1", "largest:3,1"),
     ("largest:2,2", "largest:2"), ("remove-small:0.50ml", "remove-small:0.5ml"),
     ("merge:liver,2:3", "merge:1,2:3"),
     ("remove-small:12 ml:spleen",
      "remove-small:12ml:2")],
)  # fmt: skip
def test_what_stands_in_the_digest(text, plain):
    assert [str(step) for step in read_steps([text], NAMES)] == [plain]


@pytest.mark.parametrize(
    ("text", "found"),
    [("smallest", "no step of this name"), ("largest:1:2", "more than"),
     ("largest:7", "a label '7', and the model has 1 (liver), 2 (spleen)"),
     ("largest:0", "a label '0'"), ("largest:Liver", "a label 'Liver'"),
     ("remove-small", "a size ''"), ("remove-small:5", "a size '5'"), ("largest:²", "a label '²'"),
     ("merge:1", "no label behind"), ("merge:1:2,3", "several labels"),
     ("merge:1:0", "a label '0'"), ("remove-small:-1ml", "a size '-1ml'"),
     ("remove-small:0ml", "a size '0ml'"),
     ("remove-small:1ml:4", "a label '4'"), ("remove-small:nanml", "a size 'nanml'")],
)  # fmt: skip
def test_what_is_no_step_is_refused_before_work_starts(text, found):
    with pytest.raises(RequestError) as raised:
        read_steps([text], NAMES)
    assert raised.value.code == "postprocess_invalid"
    assert found in raised.value.found


def test_the_volume_of_a_voxel_of_a_sheared_grid():
    affine = [[2, 1, 0, 0], [0, 3, 0, 0], [0, 0, -0.5, 0], [0, 0, 0, 1]]
    assert VoxelGrid.of((4, 4, 4), affine).voxel_ml == pytest.approx(0.003)
