"""What a tile's own windows decide, and what waits for those of its neighbours."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.planning import make_plan

SHAPE = (30, 22, 17)


def plan_of(tile, needs, model_shape, roi=(8, 6, 5), overlap=0.5):
    return make_plan(
        native_shape=SHAPE, model_shape=model_shape, needs=needs, roi_size=roi, overlap=overlap,
        channels=1, classes=2, tile_shape=tile,
    )  # fmt: skip


def straight(box: Box) -> Box:
    return box


def turned(box: Box) -> Box:
    """Model axes are the native ones x, z, y, of which x runs backwards."""
    (x, y, z), (i, j, k) = box.start, box.stop
    return Box((SHAPE[0] - i, z, y), (SHAPE[0] - x, k, j))


def interpolated(box: Box) -> Box:
    """Model voxels lie twice as close along x; labels need one voxel more on either side."""
    grown = Box((2 * box.start[0] - 1, *box.start[1:]), (2 * box.stop[0] + 1, *box.stop[1:]))
    return grown.intersect(Box.whole((2 * SHAPE[0], *SHAPE[1:]))) if box.size else box


def sheared(box: Box) -> Box:
    z, k = box.start[2], box.stop[2]
    return Box((box.start[0] + z // 2, *box.start[1:]), (box.stop[0] + (k - 1) // 2, *box.stop[1:]))


GRIDS = {
    "straight": (straight, SHAPE),
    "turned": (turned, (SHAPE[0], SHAPE[2], SHAPE[1])),
    "interpolated": (interpolated, (2 * SHAPE[0], *SHAPE[1:])),
    "sheared": (sheared, (SHAPE[0] + SHAPE[2] // 2, *SHAPE[1:])),
}


def alone(plan, tile, needs) -> np.ndarray:
    """Return which native voxels need windows of this tile only, looked at one by one."""
    others = [w for t in plan.tiles if t.index != tile.index for w in t.windows]
    free = np.ones(plan.model_shape, bool)
    for start in others:
        free[Box.at(start, plan.roi_size).intersect(Box.whole(plan.model_shape)).within(
            Box.whole(plan.model_shape))] = False  # fmt: skip
    found = np.zeros(plan.native_shape, bool)
    for voxel in product(*map(range, tile.write_box.start, tile.write_box.stop)):
        box = needs(Box.at(voxel, (1, 1, 1)))
        found[voxel] = bool(free[box.within(Box.whole(plan.model_shape))].all())
    return found


@pytest.mark.parametrize("grid", [*GRIDS])
@settings(max_examples=25)
@given(tile=st.tuples(st.integers(6, 30), st.integers(6, 22), st.integers(5, 17)))
def test_inner_box_and_seams_are_the_tile_and_no_other_window_reaches_the_inner_box(grid, tile):
    needs, model_shape = GRIDS[grid]
    plan = plan_of(tile, needs, model_shape)
    for one in plan.tiles:
        times = np.zeros(SHAPE, int)
        for box in (one.inner, *(seam.write_box for seam in one.seams)):
            times[box.within(Box.whole(SHAPE))] += 1
        expected = np.zeros(SHAPE, int)
        expected[one.write_box.within(Box.whole(SHAPE))] = 1
        np.testing.assert_array_equal(times, expected)
        assert all(seam.score_box == needs(seam.write_box) for seam in one.seams)
        if one.inner.size:
            reached = needs(one.inner)
            for other in plan.tiles:
                for start in other.windows if other.index != one.index else ():
                    assert not Box.at(start, plan.roi_size).intersect(reached).size


@pytest.mark.parametrize("grid", [*GRIDS])
@settings(max_examples=50)
@given(tile=st.tuples(st.integers(2, 30), st.integers(2, 22), st.integers(2, 17)))
def test_what_a_tile_computed_is_kept_until_it_is_merged_itself(grid, tile):
    """Where axes are oblique it may have windows that its own labels do not need."""
    merged: set[int] = set()
    for step in plan_of(tile, *GRIDS[grid]).schedule():
        merged |= {target.index for target in step.merged}
        assert merged >= set(step.freed)


@pytest.mark.parametrize("grid", ["straight", "turned", "interpolated"])
@pytest.mark.parametrize("tile", [(15, 22, 17), (10, 11, 9)])
def test_along_straight_axes_the_inner_box_is_all_that_needs_no_other(grid, tile):
    needs, model_shape = GRIDS[grid]
    plan = plan_of(tile, needs, model_shape, overlap=0.25)
    assert any(one.inner.size for one in plan.tiles)
    for one in plan.tiles:
        assert one.inner.size == np.count_nonzero(alone(plan, one, needs))


def test_a_seam_waits_for_both_sides_by_eye():
    """Windows of 8 every 4 along 30 voxels; tiles of 15: that from 12 on belongs to the second."""
    plan = plan_of((15, 22, 17), straight, SHAPE, roi=(8, 22, 17))
    left, right = plan.tiles
    assert [[w[0] for w in t.windows] for t in plan.tiles] == [[0, 4, 8], [12, 16, 20, 22]]
    assert (left.inner.stop[0], right.inner.start[0]) == (12, 16)
    assert [seam.write_box.shape for seam in (*left.seams, *right.seams)] == [
        (3, 22, 17), (1, 22, 17),
    ]  # fmt: skip
    assert plan.seams_for(left)[right.index] == (Box((15, 0, 0), (16, 22, 17)),)
    assert plan.handed_bytes == (3 + 1) * 22 * 17 * 2 * 8
