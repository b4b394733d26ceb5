"""P1: write boxes partition the output, and every window is evaluated exactly once."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices

from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.tiling.planning import make_plan
from unet_pipeline.tiling.windows import count_windows, lattice, window_starts

lengths = st.integers(1, 90)
rois = st.sampled_from([4, 7, 16, 32])
ENDS = ("start", "stop")
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
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.sampled_from([1, 4, 7, 16])] * 3),
    st.sampled_from([0.0, 0.25, 0.5, 0.8]),
    st.sampled_from(["packed", "evenly"]),
    st.tuples(*[st.integers(0, 9)] * 3),
    st.tuples(*[st.integers(5, 40)] * 3),
)
def test_the_number_of_windows_is_known_before_any_is_laid_out(
    shape, roi, overlap, placement, margin, tile
):
    """Native voxels lie in the middle of the model grid, as where the bundle pads."""
    model = tuple(n + 2 * m for n, m in zip(shape, margin, strict=True))

    def needs(box: Box) -> Box:
        return box.shifted(margin)

    plan = make_plan(
        native_shape=shape, model_shape=model, needs=needs, roi_size=roi, overlap=overlap,
        channels=1, classes=2, placement=placement, tile_shape=tile,
    )  # fmt: skip
    within = needs(Box.whole(shape))
    assert count_windows(model, roi, overlap, placement, within=within) == plan.n_windows


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
    starts = np.array([start for t in plan.tiles for start in t.windows])
    owners = np.array([t.index for t in plan.tiles for _ in t.windows])
    for target in plan.tiles:
        box = target.score_box
        reaching = (starts < box.stop) & (starts + 16 > box.start)
        assert target.sources == tuple(np.unique(owners[reaching.all(axis=1)]))
    assert all(
        t.index in plan.targets(plan.tiles[source]) for t in plan.tiles for source in t.sources
    )


@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.integers(8, 30)] * 3),
    st.permutations([0, 1, 2]),
    st.integers(1, 3),
)
def test_a_window_belongs_to_the_first_tile_that_it_overlaps_most(shape, tile, order, factor):
    """Model axes run along native ones in any order, with a voxel for every ``factor``."""

    def needs(box: Box) -> Box:
        return Box(
            tuple(box.start[a] // factor for a in order),
            tuple((box.stop[a] - 1) // factor + 1 for a in order),
        )

    roi = (5, 7, 9)
    model = needs(Box.whole(shape)).shape
    plan = make_plan(
        native_shape=shape, model_shape=model, needs=needs, roi_size=roi, overlap=0.5, channels=1,
        classes=2, tile_shape=tile,
    )  # fmt: skip
    first, last = (np.array([getattr(t.score_box, end) for t in plan.tiles]) for end in ENDS)
    for t in plan.tiles:
        for start in t.windows:
            common = np.minimum(np.add(start, roi), last) - np.maximum(start, first)
            assert np.clip(common, 0, None).prod(axis=1).argmax() == t.index


@given(st.tuples(*[st.integers(4, 24)] * 3), st.tuples(*[st.integers(6, 20)] * 3), st.booleans())
def test_where_axes_are_oblique_windows_are_evaluated_once_and_none_is_missed(shape, tile, lost):
    """Slices are stacked aslant: each needs other rows than the one before."""

    def needs(box: Box) -> Box:
        x, y, z = box.start
        stop = (box.stop[0] + box.stop[2] // 2, *box.stop[1:])
        found = Box((x + z // 2, y, z), stop)
        return found.intersect(Box((8, 0, 0), (99, 99, 99))) if lost else found

    plan = make_plan(
        native_shape=shape, model_shape=(shape[0] + shape[2] // 2, *shape[1:]), needs=needs,
        roi_size=(6, 6, 6), overlap=0.5, channels=1, classes=2, tile_shape=tile,
    )  # fmt: skip
    windows = [w for t in plan.tiles for w in t.windows]
    assert len(set(windows)) == len(windows)
    every = np.array([*lattice(plan.model_shape, (6, 6, 6), 0.5)])
    for target in plan.tiles:
        box = target.score_box
        reaching = every[((every < box.stop) & (every + 6 > box.start)).all(axis=1)]
        there = {w for source in target.sources for w in plan.tiles[source].windows}
        assert not box.size or {*map(tuple, reaching.tolist())} <= there


def test_the_memory_of_a_plan_does_not_grow_with_its_windows():
    def bytes_of(roi: int, tile) -> tuple[int, int]:
        tracemalloc.start()
        plan = plan_of((400, 400, 400), (roi,) * 3, 0.5, tile)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return plan.n_windows, peak

    for tile in ((400, 400, 400), (100, 400, 400)):
        few, small = bytes_of(80, tile)
        many, large = bytes_of(8, tile)
        assert few < 1000 < 800_000 < many
        assert large < small + 500_000


def test_the_drawing_of_the_module_by_eye():
    """Ten voxels, windows of four, two tiles of five: window 1 (2..6) belongs to the left tile."""
    plan = plan_of((10, 4, 4), (4, 4, 4), 0.5, (5, 4, 4))
    left, right = plan.tiles
    assert [w[0] for w in left.windows] == [0, 2]
    assert [w[0] for w in right.windows] == [4, 6]
    assert (left.sources, right.sources) == ((0, 1), (0, 1))
    beyond_the_middle = 1 + 1  # window 1 reaches to 6, window 2 begins at 4
    assert plan.handed_bytes == beyond_the_middle * 4 * 4 * plan.classes * 8


def test_the_default_tile_stays_within_the_budget():
    budget = 200_000_000
    plan = plan_of((300, 300, 300), (32, 32, 32), 0.5, budget=budget)
    assert plan.n_tiles > 1
    assert plan.peak_bytes_per_tile <= budget
    assert plan_of((40, 40, 40), (32, 32, 32), 0.5, budget=budget).n_tiles == 1


def test_no_volume_is_cut_whose_sums_fit_as_thick_as_a_window():
    """Three windows of 96 along 171, from 0, 48 and 75: 48 to 96 wait for both tiles."""
    shape, roi, plane = (171, 96, 96), (96, 96, 96), 96**2
    cut = plan_of(shape, roi, 0.5, (86, 96, 96))
    sums_weights_and_input = (96 * 3 * 8 + 171 * 8 + 171 * 4) * plane
    whole = plan_of(shape, roi, 0.5, budget=sums_weights_and_input)
    assert [(s.write_box.start[0], s.write_box.stop[0]) for t in cut.tiles for s in t.seams] == [
        (48, 86), (86, 96),
    ]  # fmt: skip
    assert cut.peak_bytes == (48 * 3 * 8 + 123 * 28 + 85 * 8) * plane
    assert (whole.n_tiles, whole.peak_bytes) == (1, sums_weights_and_input)
    assert plan_of(shape, roi, 0.5, budget=sums_weights_and_input - 1).n_tiles > 1


@given(st.tuples(lengths, lengths, lengths), st.tuples(*[st.integers(8, 60)] * 3))
def test_tiles_are_merged_once_all_their_sources_are_there(shape, tile):
    plan = plan_of(shape, (16, 16, 16), 0.5, tile)
    there: set[int] = set()
    merged: list[int] = []
    for step in plan.schedule():
        there.add(step.tile.index)
        assert all(set(target.sources) <= there for target in step.merged)
        merged += [target.index for target in step.merged]
        there -= set(step.freed)
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
