import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.merge import (
    Partial,
    merged_scores,
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
    first = merged_scores(box, partials, weight, 0)
    random.shuffle(partials)
    assert first.tobytes() == merged_scores(box, partials, weight, 0).tobytes()


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
    assert merged_scores(box, partials, weight, 0)[:, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]


def test_a_window_that_hangs_over_the_edge_counts_where_it_is_inside():
    weight = weight_sum(Box.whole((2, 1, 1)), [(-1, 0, 0)], np.ones((4, 1, 1), np.float32))
    assert (weight[:, 0, 0] >> 36).tolist() == [1, 1]


def test_the_smallest_type_that_fits():
    assert [np.dtype(smallest_label_type(n)).name for n in (2, 256, 257)] == [
        "uint8", "uint8", "uint16",
    ]  # fmt: skip
