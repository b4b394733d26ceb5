"""How sure a network is of each label: by hand, and in any tiles, slabs and order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unet_pipeline.evaluation.confidence import (
    DOUBTFUL,
    MarginCounter,
    confidence_of,
    joined,
    sums_of,
)
from unet_pipeline.records import lowest_confidence
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.margins import MOST, SURE_LEAD, TABLE, margins_of

LABELS = 4


def test_margins_by_hand():
    """Of p = 0.75 and 0.25 the margin is a half; from a lead of 7 on a voxel is sure."""
    found = margins_of(np.float32([0.0, np.log(3), 2 * np.arctanh(0.2), SURE_LEAD, np.inf]))
    assert found.tolist() == [0, 127, 51, MOST, MOST]
    assert np.all(np.diff(TABLE.astype(int)) >= 0)


def test_a_row_by_hand():
    """Labels 1 1 1 2 0: the middle of label 1 has no other label beside it, nor has the end."""
    labels_XYZ = np.asfortranarray(np.uint8([1, 1, 1, 2, 0])[:, None, None])
    margins_XYZ = np.asfortranarray(np.uint8([250, 200, 50, 100, 3])[:, None, None])
    found = confidence_of(sums(labels_XYZ, margins_XYZ), (1, 2, 3))
    assert found == {
        "1": {"confidence": 0.653595, "confidence_border": 0.196078, "doubtful": 0.333333},
        "2": {"confidence": 0.392157, "confidence_border": 0.392157, "doubtful": 0.0},
    }
    assert lowest_confidence(found) == 0.392157
    assert lowest_confidence({"1": {"voxels": 0}}) is None


def test_a_label_that_fills_the_volume_has_no_border():
    full = np.ones((2, 2, 2), np.uint8, order="F")
    assert confidence_of(sums(full, 255 * full), [1]) == {"1": {"confidence": 1.0, "doubtful": 0.0}}


def sums(labels_XYZ, margins_XYZ):
    counter = MarginCounter(
        labels_XYZ, Box.whole(labels_XYZ.shape), labels_XYZ.shape, LABELS, keep=False
    )
    counter.add(Box.whole(labels_XYZ.shape), margins_XYZ)
    assert counter.result().left == ()
    return sums_of(labels_XYZ, [counter.result()])


def defined(labels_XYZ, margins_XYZ):
    """The sums by shifted copies of the whole map."""
    border = np.zeros(labels_XYZ.shape, bool)
    for axis in range(3):
        differs = np.diff(labels_XYZ.astype(int), axis=axis) != 0
        for end in ((1, 0), (0, 1)):
            border |= np.pad(differs, [end if a == axis else (0, 0) for a in range(3)])
    found = np.zeros((LABELS, 5), np.int64)
    for label in range(1, LABELS):
        here = labels_XYZ == label
        values, along = margins_XYZ[here], margins_XYZ[here & border]
        found[label] = (
            values.size, values.sum(), along.size, along.sum(), np.count_nonzero(values < DOUBTFUL)
        )  # fmt: skip
    return found


@given(
    st.data(), array_shapes(min_dims=3, max_dims=3, max_side=7), st.booleans(), st.integers(1, 3)
)
def test_neither_tiles_nor_slabs_nor_their_order_change_a_bit(data, shape, keep, threads):
    labels_XYZ = np.asfortranarray(data.draw(arrays(np.uint8, shape, elements=st.integers(0, 3))))
    margins_XYZ = np.asfortranarray(data.draw(arrays(np.uint8, shape)))
    tile, slab = (data.draw(st.tuples(*[st.integers(1, 7)] * 3)) for _ in range(2))
    tiles = []
    for box in Box.whole(shape).blocks(tile):
        part = box.within(Box.whole(shape))
        own_XYZ = np.full(box.shape, 9, np.uint8, order="F")  # of what is not yet decided
        counter = MarginCounter(own_XYZ, box, shape, LABELS, keep=keep, threads=threads)
        for one in data.draw(st.permutations([*box.blocks(slab)])):
            cut = one.within(Box.whole(shape))
            own_XYZ[one.within(box)] = labels_XYZ[cut]
            room_XYZ = counter.room(one)
            room_XYZ[:] = margins_XYZ[cut]
            counter.add(one, room_XYZ)
        assert np.array_equal(own_XYZ, labels_XYZ[part])
        tiles.append(counter.result())
    assert np.array_equal(sums_of(labels_XYZ, tiles, threads), defined(labels_XYZ, margins_XYZ))
    if keep:
        assert np.array_equal(joined(tiles, shape), margins_XYZ)
