"""The box of a region, and where it lies on the grid that a network sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.deskew import deskewed
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.region import CropTo, box_of_labels
from unet_pipeline.volume.views import ShapeOnly


@given(
    arrays(np.uint8, (5, 4, 70), elements=st.integers(0, 3)), st.sets(st.integers(1, 5), min_size=1)
)
def test_the_box_holds_all_voxels_of_the_labels_and_no_smaller_one_does(labels_XYZ, labels):
    hit = np.argwhere(np.isin(labels_XYZ, list(labels)))
    found = box_of_labels(labels_XYZ, labels, (0, 0, 0))
    if not len(hit):
        assert found is None
    else:
        assert found == Box(tuple(hit.min(axis=0)), tuple(hit.max(axis=0) + 1))


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_a_region_of_a_sheared_file_lies_within_the_crop_of_the_upright_one(shear):
    affine = np.array([[1.0, shear, 0, -5], [0, 1.5, 0, 7], [0, 0, 2.0, 1], [0, 0, 0, 1]])
    file = VoxelGrid.of((20, 24, 16), affine)
    grid = deskewed(file).grid(file) if shear else file
    box = Box((6, 7, 5), (11, 12, 9))
    crop = CropTo(box, file).resolve(ShapeOnly(grid.shape), grid)
    corners_mm = file.voxel_to_world_mm([box.start, [n - 1 for n in box.stop]])
    inside = (np.linalg.inv(crop.grid(grid).affine) @ np.c_[corners_mm, [1, 1]].T)[:3]
    assert (inside > -1e-6).all()
    assert (inside < np.array([crop.shape]).T - 1 + 1e-6).all()
    assert shear or crop.shape == box.shape
