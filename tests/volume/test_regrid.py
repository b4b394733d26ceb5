"""Regridding against nibabel, and the properties that make it safe for label maps."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.processing import resample_from_to

from unet_pipeline.volume import regrid
from unet_pipeline.volume.grid import Orientation, VoxelGrid
from unet_pipeline.volume.regrid import match_grid, reordered, reordering, resampled

LITTLE = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
GRID = VoxelGrid.of((2, 3, 4), np.diag([2.0, 3.0, 4.0, 1.0]))
ORDERS = st.tuples(
    st.permutations(range(3)), st.tuples(st.booleans(), st.booleans(), st.booleans())
)


def oblique(shape: tuple[int, int, int], degrees: float = 20.0) -> VoxelGrid:
    angle = np.radians(degrees)
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    turn = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    affine[:3, :3] = np.array(turn) @ affine[:3, :3]
    affine[:3, 3] = [-3, 4, 1]
    return VoxelGrid.of(shape, affine)


@given(ORDERS)
def test_a_reordering_is_found_and_loses_nothing(order):
    axes, flips = order
    stored = Orientation((axes[0], axes[1], axes[2]), flips)
    other, values = stored.apply(GRID), reordered(LITTLE, stored)
    back = reordering(other, GRID, 1e-6)
    assert back is not None
    assert np.array_equal(reordered(values, back), LITTLE)
    assert np.array_equal(resampled(values, other, GRID, "nearest"), LITTLE)
    assert np.array_equal(resampled(values, other, GRID, "linear"), LITTLE.astype(np.float32))


def test_no_reordering_makes_another_place():
    moved = GRID.affine.copy()
    moved[0, 3] += 1
    assert reordering(VoxelGrid.of(GRID.shape, moved), GRID, 0.1) is None
    assert reordering(VoxelGrid.of((2, 3, 5), GRID.affine), GRID, 0.1) is None


def test_the_same_grid_is_not_copied():
    assert match_grid(LITTLE, GRID, GRID, 0.1, "nearest") is LITTLE


@given(st.tuples(*[st.integers(-4, 4)] * 3))
def test_a_shift_by_whole_voxels(shift):
    affine = GRID.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ shift
    found = resampled(LITTLE, GRID, VoxelGrid.of(GRID.shape, affine), "nearest", fill=-1)
    wanted = np.full_like(LITTLE, -1)
    for index in np.ndindex(LITTLE.shape):
        source = tuple(i + s for i, s in zip(index, shift, strict=True))
        if all(0 <= i < n for i, n in zip(source, LITTLE.shape, strict=True)):
            wanted[index] = LITTLE[source]
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("method", ["nearest", "linear"])
@given(ORDERS)
def test_the_storage_order_of_the_source_does_not_show(method, order):
    axes, flips = order
    stored = Orientation((axes[0], axes[1], axes[2]), flips)
    between = GRID.affine @ [[2, 0, 0, 0.5], [0, 1, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]]
    target = VoxelGrid.of((1, 3, 2), between)  # each voxel halfway between eight
    found = resampled(reordered(LITTLE, stored), stored.apply(GRID), target, method)
    assert np.array_equal(found, resampled(LITTLE, GRID, target, method))


def test_half_a_voxel_beyond_the_last_centre_its_value_holds():
    line = np.array([1, 2, 3], np.int16).reshape(3, 1, 1)
    grid = VoxelGrid.of((3, 1, 1), np.eye(4))
    fine = VoxelGrid.of((10, 1, 1), np.array(
        [[0.5, 0, 0, -1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    ))  # fmt: skip
    # positions -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5
    assert resampled(line, grid, fine, "nearest").ravel().tolist() == [0, 1, 1, 2, 2, 3, 3, 3, 0, 0]
    assert resampled(line, grid, fine, "linear").ravel().tolist() == [
        0, 1, 1, 1.5, 2, 2.5, 3, 3, 0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(("method", "order"), [("nearest", 0), ("linear", 1)])
def test_oblique_grids_as_nibabel_does(method, order):
    values = np.random.default_rng(0).normal(size=(20, 22, 18)).astype(np.float32)
    source = VoxelGrid.of(values.shape, np.diag([1.0, 1.2, 1.4, 1.0]))
    target = oblique((12, 14, 9))
    wanted = resample_from_to(
        nib.Nifti1Image(values, source.affine), (target.shape, target.affine), order=order, cval=-9
    ).get_fdata()
    found = resampled(values, source, target, method, fill=-9)
    inside = (wanted != -9) & (found != -9)
    assert inside.sum() > 500
    assert np.allclose(found[inside], wanted[inside], atol=1e-5)


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_slabs_cannot_be_seen(method, monkeypatch):
    values = np.random.default_rng(1).integers(0, 9, (20, 22, 18)).astype(np.uint8)
    source = VoxelGrid.of(values.shape, np.diag([1.0, 1.2, 1.4, 1.0]))
    target = oblique((12, 14, 9), 33.0)
    whole = resampled(values, source, target, method)
    monkeypatch.setattr(regrid, "_SLAB_VOXELS", 1)
    assert np.array_equal(resampled(values, source, target, method), whole)
    assert set(np.unique(whole)) - set(range(9)) == set() or method == "linear"
