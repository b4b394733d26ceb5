"""Windows go along an axis; what is behind them is decided, and its sums are let go of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.tiling.box import Box, index3
from unet_pipeline.tiling.window_order import WindowOrder, order_of
from unet_pipeline.tiling.windows import lattice

ROI = (8, 6, 7)
lengths = st.integers(1, 40)


def identity(box: Box) -> Box:
    return box


def backwards(shape, permutation=(0, 1, 2)):
    """Model voxels run against native ones, along other axes."""

    def needs(box: Box) -> Box:
        whole = [n - b for n, b in zip(shape, box.stop, strict=True)]
        stops = [n - a for n, a in zip(shape, box.start, strict=True)]
        return Box(index3(whole[a] for a in permutation), index3(stops[a] for a in permutation))

    return needs


def spread(shape, factor):
    """A model voxel every ``factor`` native voxels, interpolated between two."""

    def needs(box: Box) -> Box:
        if not box.size:
            return box
        last = [(n - 1) // factor + 1 for n in shape]
        start = index3(min(a // factor, m - 1) for a, m in zip(box.start, last, strict=True))
        stop = index3(min((b - 1) // factor + 2, m) for b, m in zip(box.stop, last, strict=True))
        return Box(start, stop)

    return needs


def windows_of(shape, overlap=0.5):
    return lattice(shape, ROI, overlap)


def check(order: WindowOrder, write_box: Box, windows, needs) -> None:
    """Follow an order as whoever adds up sums does: nothing is missing, nothing in the way."""
    axis = order.axis
    assert sorted(order.windows) == sorted(windows)
    first, end = order.box.start[axis], order.box.stop[axis]
    assert order.box == needs(write_box)
    decided = np.zeros(write_box.shape, int)
    low = first
    waiting = list(order.windows)
    for slab in order.slabs:
        assert {w[axis] for w in slab.windows} == {slab.windows[0][axis]}
        assert max(slab.windows[0][axis], first) >= low
        assert min(slab.windows[0][axis] + ROI[axis], end) - low <= order.length
        waiting = waiting[len(slab.windows) :]
        if slab.write_box.size:
            needed = needs(slab.write_box)
            assert needed == slab.score_box
            if needed.size:
                assert needed.start[axis] >= low
                assert all(Box.at(w, ROI).intersect(needed).size == 0 for w in waiting)
            decided[slab.write_box.within(write_box)] += 1
        assert slab.released[0] == low
        low = slab.released[1]
    assert (decided == 1).all()
    assert low == end


@given(st.tuples(lengths, lengths, lengths))
def test_every_voxel_is_decided_once_when_its_sums_are_complete(shape):
    windows, box = windows_of(shape), Box.whole(shape)
    check(order_of(box, windows, ROI, identity), box, windows, identity)


@given(st.tuples(lengths, lengths, lengths), st.permutations([0, 1, 2]))
def test_native_voxels_may_run_backwards_and_along_other_axes(model_shape, permutation):
    native = [0, 0, 0]
    for model_axis, native_axis in enumerate(permutation):
        native[native_axis] = model_shape[model_axis]
    needs, windows = backwards(native, permutation), windows_of(model_shape)
    check(order_of(Box.whole(native), windows, ROI, needs), Box.whole(native), windows, needs)


@given(st.tuples(lengths, lengths, lengths), st.integers(2, 5))
def test_labels_between_two_sweeps_keep_the_voxels_that_they_lie_between(shape, factor):
    model = index3((n - 1) // factor + 1 for n in shape)
    needs, windows = spread(shape, factor), windows_of(model)
    check(order_of(Box.whole(shape), windows, ROI, needs), Box.whole(shape), windows, needs)


def test_the_drawing_of_the_module_by_eye():
    """Windows of 8 at 0, 4, 8 and 12; labels lie on the voxels."""
    shape = (20, 6, 7)
    order = order_of(Box.whole(shape), windows_of(shape), ROI, identity)
    assert (order.axis, order.length) == (0, 8)
    assert [slab.write_box.stop[0] for slab in order.slabs] == [4, 8, 12, 20]
    assert [slab.released for slab in order.slabs] == [(0, 4), (4, 8), (8, 12), (12, 20)]


def test_the_axis_is_taken_that_keeps_the_fewest_sums():
    shape = (12, 60, 14)
    assert order_of(Box.whole(shape), windows_of(shape), ROI, identity).axis == 1


def test_where_axes_are_mixed_all_sums_are_kept_to_the_end():
    """An oblique grid: any label may need any score."""
    shape = (20, 20, 20)
    order = order_of(Box.whole(shape), windows_of(shape), ROI, lambda _: Box.whole(shape))
    assert order.length == 20
    assert [bool(slab.write_box.size) for slab in order.slabs][-1]
    assert not any(slab.write_box.size for slab in order.slabs[:-1])


@pytest.mark.parametrize("cropped", [5, 30])
def test_voxels_that_were_cropped_away_are_decided_too(cropped):
    """The model has voxels from ``cropped`` on; those before it need no scores."""
    native = (40, 6, 7)
    model = (40 - cropped, 6, 7)

    def needs(box: Box) -> Box:
        moved = box.shifted((-cropped, 0, 0))
        return moved.intersect(Box.whole(model))

    windows = windows_of(model)
    check(order_of(Box.whole(native), windows, ROI, needs), Box.whole(native), windows, needs)
