"""NumPy is the oracle: layouts in memory must not show in a single bit."""

from itertools import permutations, product

import numpy as np
import pytest

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.grid import Orientation
from unet_pipeline.volume.layout import copy_into, in_order, mixed
from unet_pipeline.volume.views import ArrayView, Reoriented, Resampled, materialised

LAYOUTS = [
    (order, flips)
    for order in permutations(range(4))
    for flips in ((1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, -1))
]


def laid_out(values, order, flips):
    """The same values, in another order of memory."""
    turned = tuple(slice(None, None, flip) for flip in flips)
    memory = np.ascontiguousarray(values[turned].transpose(order))
    return memory.transpose(np.argsort(order))[turned]


@pytest.mark.parametrize(("order", "flips"), LAYOUTS)
def test_mixing_is_the_same_in_any_layout(order, flips):
    values = np.random.default_rng(1).normal(size=(2, 5, 6, 7)).astype(np.float32)
    below, above = np.array([0, 1, 1, 4]), np.array([1, 2, 2, 4])
    share = np.array([0.0, 0.3, 0.7, 0.1], np.float32)
    for axis in (1, 2, 3):
        weight = share.reshape([4 if a == axis else 1 for a in range(4)])
        wanted = values.take(below, axis) * (1 - weight) + values.take(above, axis) * weight
        got = mixed(laid_out(values, order, flips), axis, below, above, share)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize(("order", "flips"), LAYOUTS)
def test_a_copy_has_the_same_values(order, flips, dtype):
    values = np.random.default_rng(2).integers(0, 99, (2, 17, 70, 19)).astype(dtype)
    source = laid_out(values, order, flips)
    for target_order in permutations(range(4)):
        target = laid_out(np.zeros_like(values), target_order, (1, 1, 1, 1))
        copy_into(target, source)
        np.testing.assert_array_equal(target, values)
    assert in_order(source).flags.c_contiguous
    np.testing.assert_array_equal(in_order(source), values)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_a_resampled_volume_is_that_of_numpy(axes, flips):
    stored = np.random.default_rng(3).integers(-1000, 1000, (24, 26, 31)).astype(np.int16)
    view = Reoriented(ArrayView(np.asfortranarray(stored)[None]), Orientation(axes, flips))
    shape = tuple(int(n / 1.7) for n in view.shape)
    resampled = Resampled(view, (1.7, 1.7, 1.7), shape, (0.25, 0.0, 0.1))

    wanted = stored.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    wanted = wanted.astype(np.float32)
    for axis, start in enumerate(resampled.start):
        last = wanted.shape[axis] - 1
        at = np.clip(np.arange(shape[axis]) * 1.7 + start, 0, last)
        low = np.floor(at).astype(int)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        above = wanted.take(np.minimum(low + 1, last), axis)
        wanted = wanted.take(low, axis) * (1 - weight) + above * weight

    whole = materialised(resampled).values_CXYZ
    assert whole.flags.c_contiguous
    np.testing.assert_array_equal(whole[0], wanted)
    box = Box((3, 2, 5), (7, 11, 9))
    np.testing.assert_array_equal(resampled.read(box)[0], wanted[3:7, 2:11, 5:9])
