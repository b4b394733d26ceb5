import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.merge import (
    FIXED_POINT,
    Merged,
    Partial,
    add_window,
    shared,
    smallest_label_type,
    to_fixed_point,
    weight_sum,
)

scores = arrays(np.float32, (1, 3, 3, 3), elements=st.floats(-1e4, 1e4, width=32))


@given(st.lists(scores, min_size=2, max_size=6), st.randoms())
def test_the_order_of_adding_cannot_change_a_bit(parts, random):
    box = Box.whole((3, 3, 3))
    weight = np.full(box.shape, 3 << 36, dtype=np.int64)
    partials = [Partial(box, to_fixed_point(part)) for part in parts]
    first = Merged(box, partials, weight).scores(box, 0)
    random.shuffle(partials)
    assert first.tobytes() == Merged(box, partials, weight).scores(box, 0).tobytes()


def test_two_windows_of_four_voxels_by_eye():
    """Windows at 0 and 2, all weights 1; scores 1 and 3: the two voxels they share score 2."""
    importance = np.ones((4, 1, 1), dtype=np.float32)
    box = Box((0, 0, 0), (6, 1, 1))
    weight = weight_sum(box, [(0, 0, 0), (2, 0, 0)], importance)
    partials = [
        Partial(Box((0, 0, 0), (4, 1, 1)), to_fixed_point(np.full((1, 4, 1, 1), 1, np.float32))),
        Partial(Box((2, 0, 0), (6, 1, 1)), to_fixed_point(np.full((1, 4, 1, 1), 3, np.float32))),
    ]
    assert (weight[:, 0, 0] >> 36).tolist() == [1, 1, 2, 2, 1, 1]
    merged = Merged(box, partials, weight)
    assert merged.scores(box, 0)[:, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]
    inside = Box((1, 0, 0), (5, 1, 1))
    assert merged.scores(inside, 0)[:, 0, 0].tolist() == [1, 2, 2, 3]
    assert (merged.totals(inside)[0, :, 0, 0] >> 36).tolist() == [1, 4, 4, 3]
    first = Box((0, 0, 0), (2, 1, 1))
    assert np.shares_memory(merged.totals(first), partials[0].sums_CXYZ)


def test_a_window_that_hangs_over_the_edge_counts_where_it_is_inside():
    weight = weight_sum(Box.whole((2, 1, 1)), [(-1, 0, 0)], np.ones((4, 1, 1), np.float32))
    assert (weight[:, 0, 0] >> 36).tolist() == [1, 1]


ROI = (4, 2, 5)
orders = st.sampled_from(["CXYZ", "XYZC", "ZYXC"])


def in_order(values, order):
    """Lay an array out so that the last of these axes is the innermost of memory."""
    axes = ["CXYZ".index(axis) for axis in order]
    return np.ascontiguousarray(values.transpose(axes)).transpose(np.argsort(axes))


window_scores = arrays(
    np.float32, (3, *ROI), elements=st.floats(-32767, 32767, width=32, allow_subnormal=True)
)
window_weights = arrays(np.float32, ROI, elements=st.floats(2.0**-27, 1, width=32))


@settings(deadline=None)  # the first call compiles
@given(window_scores, window_weights, st.integers(1, 5), orders)
def test_a_window_is_added_as_its_rounded_products(values, importance, threads, order):
    sums = np.full((3, 6, 4, 5), 7, dtype=np.int64)
    scores = in_order(values, order)
    assert add_window(sums, scores, importance, Box.whole(ROI), (1, 2, 0), threads)
    assert (sums[:, 1:5, 2:4] == 7 + to_fixed_point(values * importance)).all()
    sums[:, 1:5, 2:4] = 7
    assert (sums == 7).all()


@settings(deadline=None)
@given(window_scores, window_weights, orders)
def test_a_part_of_a_window_is_added_and_no_more(values, importance, order):
    sums, part = np.zeros((3, 6, 4, 5), dtype=np.int64), Box((1, 0, 2), (3, 2, 5))
    assert add_window(sums, in_order(values, order), importance, part, (-1, 2, 0), 2)
    expected = to_fixed_point(values * importance)[(slice(None), *part.within(Box.whole(ROI)))]
    assert (sums[:, 0:2, 2:4, 2:5] == expected).all()
    sums[:, 0:2, 2:4, 2:5] = 0
    assert not sums.any()


@pytest.mark.parametrize("order", ["CXYZ", "XYZC", "ZYXC"])
@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 2.0**15, -(2.0**15)])
def test_one_wild_score_is_found(wild, order):
    values = np.zeros((3, 4, 2, 5), np.float32)
    values[2, 3, 1, 4] = wild
    sums = np.zeros(values.shape, np.int64)
    weights = np.ones(ROI, np.float32)
    assert not add_window(sums, in_order(values, order), weights, Box.whole(ROI), (0, 0, 0), 2)


def test_scores_of_the_largest_size_add_up_exactly():
    values = np.full((1, 1, 1, 8), np.nextafter(np.float32(2**15), np.float32(0)))
    sums, weights = np.zeros(values.shape, np.int64), np.ones((1, 1, 8), np.float32)
    for _ in range(4095):
        assert add_window(sums, values, weights, Box.whole((1, 1, 8)), (0, 0, 0), 1)
    assert (sums == 4095 * int(values[0, 0, 0, 0] * FIXED_POINT)).all()


def test_sums_must_be_those_of_their_box():
    with pytest.raises(ValueError, match="voxels for Box"):
        Partial(Box.whole((2, 2, 2)), np.zeros((3, 2, 2, 1), np.int64))


@pytest.mark.parametrize("threads", [1, 3])
def test_shared_work_comes_back_in_order(threads):
    assert shared(threads, lambda n: n * n, range(20)) == [n * n for n in range(20)]


def test_the_smallest_type_that_fits():
    assert [np.dtype(smallest_label_type(n)).name for n in (2, 256, 257)] == [
        "uint8", "uint8", "uint16",
    ]  # fmt: skip
