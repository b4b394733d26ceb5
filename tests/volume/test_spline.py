"""SciPy is the oracle of the values; no box and no layout in memory may show in a single bit."""

from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume import statistics
from unet_pipeline.volume.spline import Spline
from unet_pipeline.volume.views import ArrayView, View, materialised

SHAPE = (19, 45, 38)
TO = {
    "coarser": (13, 15, 13),
    "finer": (24, 51, 77),
    "planes": (19, 15, 50),
    "one axis": (19, 45, 11),
    "columns": (30, 45, 38),
    "one voxel": (1, 1, 1),
    "equal": SHAPE,
}


def volume(shape=SHAPE, channels=2) -> np.ndarray:
    values = np.random.default_rng(0).normal(40, 300, (channels, *shape)).astype(np.float32)
    values[:, : shape[0] // 3] = -1000
    return values


def spline(view: View, shape, axis=None) -> Spline:
    steps = tuple(have / want for have, want in zip(view.shape, shape, strict=True))
    return Spline(view, steps, shape, *statistics.bounds(view, axis))


def scipys(values: np.ndarray, shape) -> np.ndarray:
    """Each channel by SciPy, clipped to its range."""
    factors = [want / have for have, want in zip(values.shape[1:], shape, strict=True)]
    return np.stack(
        [
            zoom(one.astype(np.float64), factors, order=3, mode="nearest", grid_mode=True).clip(
                one.min(), one.max()
            )
            for one in values
        ]
    )


@pytest.mark.parametrize("name", TO)
def test_the_values_are_scipys(name):
    values = volume()
    found = materialised(spline(ArrayView(values), TO[name])).values_CXYZ
    wanted = scipys(values, TO[name])
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * np.abs(values).max())


@pytest.mark.parametrize("shape", [(2, 1, 3), (1, 1, 1), (40, 1, 1), (1, 3, 90)])
def test_small_volumes_are_scipys(shape):
    values = volume(shape, channels=1)
    to = (5, 2, 30)
    found = materialised(spline(ArrayView(values), to)).values_CXYZ
    np.testing.assert_allclose(found, scipys(values, to), rtol=1e-6, atol=2e-3)


@settings(max_examples=examples(40), deadline=None)
@given(st.sampled_from(sorted(TO)), st.sampled_from([None, 0]), st.data())
def test_a_box_has_the_bits_of_the_whole(name, axis, data):
    axis = axis if TO[name][0] == SHAPE[0] else None  # bounds per slice, where these are kept
    view = spline(ArrayView(volume()), TO[name], axis)
    whole = view.read(Box.whole(view.shape))
    start = [data.draw(st.integers(0, n - 1)) for n in view.shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, view.shape, strict=True)]
    box = Box(tuple(start), tuple(stop))
    wanted = whole[(slice(None), *box.within(Box.whole(view.shape)))]
    np.testing.assert_array_equal(view.read(box), wanted)


@pytest.mark.parametrize("order", list(permutations(range(4))))
@pytest.mark.parametrize("flip", [1, -1])
def test_a_layout_in_memory_does_not_show(order, flip):
    values = volume()
    laid_out = np.ascontiguousarray(values[:, :, ::flip].transpose(order))
    turned = laid_out.transpose(np.argsort(order))[:, :, ::flip]
    for to in (TO["coarser"], TO["planes"]):
        found, wanted = (spline(ArrayView(v), to) for v in (turned, values))
        box = Box((0, 2, 3), (9, 15, 13))
        np.testing.assert_array_equal(found.read(box), wanted.read(box))


@dataclass(frozen=True)
class Counted:
    """A view that remembers how many voxels were read."""

    inner: View
    sizes: list[int] = field(default_factory=list)

    @property
    def shape(self):
        return self.inner.shape

    @property
    def channels(self):
        return self.inner.channels

    def read(self, box):
        self.sizes.append(box.size)
        return self.inner.read(box)

    def needs(self, box):
        return self.inner.needs(box)


def test_a_large_volume_is_read_about_once_and_in_parts():
    air = np.broadcast_to(np.float32(-1000), (1, 128, 400, 1200))
    inner = Counted(ArrayView(air))
    bounds = np.full((2, 1, 1, 1, 1), -1000, np.float32)
    found = materialised(Spline(inner, (1.0, 2.0, 2.0), (128, 200, 600), *bounds))
    assert np.array_equal(np.unique(found.values_CXYZ), [-1000])
    assert sum(inner.sizes) <= 1.1 * air.size
    assert max(inner.sizes) < air.size / 10
