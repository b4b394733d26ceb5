"""Which windows of a case are looked at."""

import numpy as np
import pytest

from unet_pipeline.layer_analysis.cases import OUTSIDE, cut_block, foreground_windows
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.views import ArrayView


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
