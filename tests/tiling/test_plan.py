"""P1: write boxes partition the output, and every window is evaluated exactly once."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices

from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.tiling.planning import make_plan
from unet_pipeline.tiling.windows import window_starts

lengths = st.integers(1, 90)
rois = st.sampled_from([4, 7, 16, 32])
overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.625, 0.8, 0.99])


def identity(box: Box) -> Box:
    return box


def plan_of(shape, roi, overlap, tile=None, budget=2_000_000_000) -> TilePlan:
    return make_plan(
        native_shape=shape,
        model_shape=shape,
        needs=identity,
        roi_size=roi,
        overlap=overlap,
        channels=1,
        classes=3,
        tile_shape=tile,
        budget_bytes=budget,
    )


@given(lengths, rois, overlaps)
def test_windows_lie_where_monai_places_them(length, roi, overlap):
    padded = max(length, roi)
    interval = roi if padded == roi else max(int(roi * (1 - overlap)), 1)
    expected = [s[0].start for s in dense_patch_slices((padded,), (roi,), (interval,))]
    before = (padded - length) // 2
    assert list(window_starts(length, roi, overlap)) == [start - before for start in expected]


@given(
    st.tuples(lengths, lengths, lengths),
    st.tuples(*[st.integers(8, 60)] * 3),
    st.sampled_from([0.25, 0.5]),
)
def test_write_boxes_partition_and_windows_are_evaluated_once(shape, tile, overlap):
    roi = (16, 32, 7)
    plan = plan_of(shape, roi, overlap, tile)
    covered = np.zeros(shape, dtype=int)
    for t in plan.tiles:
        covered[t.write_box.within(Box.whole(shape))] += 1
    assert (covered == 1).all()
    axes = [window_starts(n, r, overlap) for n, r in zip(shape, roi, strict=True)]
    assert sorted(w for t in plan.tiles for w in t.windows) == sorted(product(*axes))


@given(st.tuples(lengths, lengths, lengths), st.tuples(*[st.integers(8, 60)] * 3))
def test_a_tile_gets_partials_from_every_tile_that_reaches_into_it(shape, tile):
    plan = plan_of(shape, (16, 16, 16), 0.5, tile)
    for target in plan.tiles:
        reaching = {
            source.index
            for source in plan.tiles
            for start in source.windows
            if Box.at(start, plan.roi_size).intersect(target.score_box).size
        }
        assert set(target.sources) == reaching
    assert all(
        t.index in plan.targets(plan.tiles[source]) for t in plan.tiles for source in t.sources
    )


def test_the_drawing_of_the_module_by_eye():
    """Ten voxels, windows of four, two tiles of five: window 1 (2..6) belongs to the left tile."""
    plan = plan_of((10, 4, 4), (4, 4, 4), 0.5, (5, 4, 4))
    left, right = plan.tiles
    assert [w[0] for w in left.windows] == [0, 2]
    assert [w[0] for w in right.windows] == [4, 6]
    assert (left.sources, right.sources) == ((0, 1), (0, 1))


def test_the_default_tile_stays_within_the_budget():
    budget = 200_000_000
    plan = plan_of((300, 300, 300), (32, 32, 32), 0.5, budget=budget)
    assert plan.n_tiles > 1
    assert plan.peak_bytes_per_tile <= budget
    assert plan_of((40, 40, 40), (32, 32, 32), 0.5, budget=budget).n_tiles == 1


def test_no_volume_is_cut_where_cutting_keeps_more_in_memory():
    """Three windows of 96 along 171: two tiles need sums on 96 + 123 at once, and one less."""
    shape, roi = (171, 96, 96), (96, 96, 96)
    cut = plan_of(shape, roi, 0.5, (86, 96, 96))
    whole = plan_of(shape, roi, 0.5, budget=cut.peak_bytes_per_tile)
    sums_and_input = (96 * 3 * 8 + 171 * 4) * 96**2
    assert (cut.peak_bytes, whole.peak_bytes) == ((96 + 123) * 96**2 * 28, sums_and_input)
    assert whole.n_tiles == 1


@given(st.tuples(lengths, lengths, lengths), st.tuples(*[st.integers(8, 60)] * 3))
def test_tiles_are_merged_once_all_their_sources_are_there(shape, tile):
    plan = plan_of(shape, (16, 16, 16), 0.5, tile)
    there: set[int] = set()
    merged: list[int] = []
    for turn in plan.turns():
        there.add(turn.tile.index)
        assert all(set(target.sources) <= there for target in turn.merged)
        merged += [target.index for target in turn.merged]
        there -= set(turn.freed)
    assert sorted(merged) == [t.index for t in plan.tiles]
    assert not there


@pytest.mark.parametrize("permutation", [(2, 0, 1), (1, 2, 0)])
def test_the_default_tile_knows_which_native_axis_runs_along_a_model_axis(permutation):
    native = (400, 60, 30)

    def needs(box: Box) -> Box:
        return Box(
            tuple(box.start[a] for a in permutation), tuple(box.stop[a] for a in permutation)
        )

    plan = make_plan(
        native_shape=native,
        model_shape=tuple(native[a] for a in permutation),
        needs=needs,
        roi_size=(16, 16, 16),
        overlap=0.5,
        channels=1,
        classes=2,
        budget_bytes=3_000_000,
    )
    assert plan.n_tiles > 1
    assert plan.tiles[0].write_box.shape[1:] == (60, 30)
