"""Which windows of a case are looked at, and the labels on the model grid."""

import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.inspection.cases import OUTSIDE, cut_block, foreground_windows, model_labels
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.steps import prepare
from unet_pipeline.volume.views import ArrayView

GRID = VoxelGrid.of((4, 4, 2), np.diag([-1.0, 1.0, 1.0, 1.0]))  # axis 0 grows to the left


def with_label_at(shape, voxel):
    labels = np.zeros(shape, np.int16)
    labels[voxel] = 1
    return labels


def test_a_small_volume_is_looked_at_as_a_whole():
    labels = with_label_at((6, 4, 4), (0, 0, 0))
    assert foreground_windows(labels, (4, 4, 4), 0.5, 8) == ((0, 0, 0), (2, 0, 0))


def test_of_a_large_volume_the_block_with_most_foreground_is_taken():
    labels = with_label_at((40, 40, 40), (30, 2, 21))
    (window,) = foreground_windows(labels, (8, 8, 8), 0.0, 1)
    assert window == (24, 0, 16)
    windows = foreground_windows(labels, (8, 8, 8), 0.0, 4)
    assert len(windows) == 4
    assert (24, 0, 16) in windows


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 27, 1000])
def test_never_more_windows_than_asked(most):
    labels = np.zeros((20, 30, 10), np.int16)
    windows = foreground_windows(labels, (8, 8, 8), 0.5, most)
    assert 1 <= len(windows) <= most


def test_what_lies_outside_a_small_volume_is_marked():
    labels = with_label_at((2, 4, 4), (0, 0, 0))
    grid = VoxelGrid.of((2, 4, 4), np.eye(4))
    block = cut_block("a", ArrayView(np.ones((1, 2, 4, 4))), grid, labels,
                      roi_size=(4, 4, 4), overlap=0.5, most_windows=8)  # fmt: skip
    assert block.windows == ((-1, 0, 0),)
    assert block.labels_XYZ[:, 1, 1].tolist() == [OUTSIDE, 0, 0, OUTSIDE]
    assert block.values_CXYZ[0, :, 1, 1].tolist() == [0, 1, 1, 0]
    assert block.labels_XYZ[1, 0, 0] == 1


def test_a_mask_takes_the_geometric_steps_only():
    steps = parse_preprocessing(
        [
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "NormalizeIntensityd", "keys": "image"},
            {"_target_": "DivisiblePadd", "keys": "image", "k": 4, "method": "end"},
        ]
    )
    image = np.random.default_rng(0).normal(size=(4, 4, 2))
    mask = np.zeros((4, 4, 2), np.uint8)
    mask[0, 1, 1] = 7
    prepared = prepare(steps, ArrayView(image[None]), GRID)
    labels = model_labels(mask, prepared)
    assert labels.shape == (4, 4, 4)  # padded at the end of its third axis
    assert np.argwhere(labels == 7).tolist() == [[3, 1, 1]]  # mirrored along its first
    assert np.count_nonzero(labels) == 1


def test_a_resampled_mask_has_the_label_of_the_largest_share():
    spacing = [{"_target_": "Spacingd", "keys": "image", "pixdim": (0.5, 1.0, 1.0)}]
    mask = np.zeros((4, 1, 1), np.uint8)
    mask[2:] = 3
    grid = VoxelGrid.of((4, 1, 1), np.eye(4))
    prepared = prepare(parse_preprocessing(spacing), ArrayView(mask[None]), grid)
    labels = model_labels(mask, prepared)[:, 0, 0].tolist()
    assert labels == [0, 0, 0, 0, 3, 3, 3]  # of two equal shares the lower label


def test_labels_that_are_no_small_numbers_are_refused():
    prepared = prepare((), ArrayView(np.zeros((1, 2, 2, 2))), VoxelGrid.of((2, 2, 2), np.eye(4)))
    with pytest.raises(CaseError) as caught:
        model_labels(np.full((2, 2, 2), 70_000), prepared)
    assert caught.value.code == "labels_out_of_range"
