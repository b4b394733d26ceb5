from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.volume.grid import Orientation, VoxelGrid, closest_axes, orientation_to

ALL_48 = [
    Orientation(axes, flips)
    for axes in permutations(range(3))
    for flips in product([False, True], repeat=3)
]
angles = st.floats(-3.1, 3.1)
zooms = st.tuples(*[st.floats(0.2, 6)] * 3)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    return nib.eulerangles.euler2mat(a, b, c)


@given(angles, angles, angles, zooms, st.floats(-0.3, 0.3))
def test_closest_axes_are_those_of_nibabel(a, b, c, zoom, shear):
    affine = np.eye(4)
    affine[:3, :3] = (
        rotation(a, b, c) @ np.diag(zoom) @ np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]])
    )
    expected = [(int(axis), int(sign)) for axis, sign in nib.io_orientation(affine)]
    assert closest_axes(affine[:3, :3]) == expected
    assert VoxelGrid.of((2, 3, 4), affine).axcodes == "".join(nib.aff2axcodes(affine))


@pytest.mark.parametrize("orientation", ALL_48)
def test_reordering_keeps_every_voxel_at_its_place_in_the_world(orientation):
    grid = VoxelGrid.of((3, 4, 5), np.diag([1.5, 2.0, 3.0, 1.0]))
    values = np.arange(60).reshape(3, 4, 5)
    moved = values.transpose(orientation.source_axes)[
        tuple(slice(None, None, -1 if flip else 1) for flip in orientation.flips)
    ]
    new = orientation.apply(grid)
    assert new.shape == moved.shape
    for index in ((0, 0, 0), (1, 2, 1), tuple(n - 1 for n in new.shape)):
        old_index = np.argwhere(values == moved[index])[0]
        np.testing.assert_allclose(
            new.voxel_to_world_mm(index), grid.voxel_to_world_mm(old_index), atol=1e-9
        )
    back = orientation_to(new, "RAS").apply(new)
    assert back.shape == grid.shape
    np.testing.assert_allclose(back.affine, grid.affine, atol=1e-9)
    assert orientation.inverse.apply(new) == grid


def test_corners_and_spacing_by_eye():
    grid = VoxelGrid.of((2, 3, 4), np.diag([2, 3, 4, 1.0]))
    assert grid.spacing_mm == (2, 3, 4)
    assert grid.corners_mm.max(axis=0).tolist() == [2, 6, 12]


def test_a_shape_that_is_no_volume_is_refused():
    with pytest.raises(ValueError, match="three numbers >= 1"):
        VoxelGrid.of((2, 3, 0), np.eye(4))
