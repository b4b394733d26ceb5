"""NumPy is the oracle of a normalisation: the same bits, and the bounds that a pass would find."""

import numpy as np
import pytest

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume import statistics
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.nnunet_values import Normalise, Scale, Scheme
from unet_pipeline.volume.views import ArrayView, View

CT = Scheme("CTNormalization", mean=60.3, deviation=91.7, low=-150.5, high=350.25)
SCHEMES = {
    "CT": (CT, CT),
    "rescaled": (CT, Scheme("RescaleTo01Normalization")),
    "standardised": (Scheme("ZScoreNormalization"), Scheme("NoNormalization")),
    "masked": (CT, Scheme("ZScoreNormalization", masked=True)),
}


def volume(order="C") -> np.ndarray:
    values = np.random.default_rng(1).integers(-1024, 3000, (2, 9, 11, 13)).astype(np.int16)
    values[:, :4] = 0
    return np.asarray(values, order=order)


def normalised(name: str, order="C") -> View:
    view = ArrayView(volume(order))
    return Normalise(SCHEMES[name]).resolve(view, VoxelGrid.of(view.shape, np.eye(4))).apply(view)


def test_a_scale_by_eye():
    values = np.array([[[-200.0, -100.0, 0.0, 100.0, 150.0]]], np.float32)
    found = Scale(low=-100, high=120, shift=20, divisor=2)(values)
    np.testing.assert_array_equal(found, [[[-60, -60, -10, 40, 50]]])


def test_nothing_changes_outside_a_mask():
    values = np.array([[[3.0, 5.0, 7.0]]], np.float32)
    mask = np.array([[[True, False, True]]])
    found = Scale(shift=1, divisor=2, masked=True)(values, mask)
    np.testing.assert_array_equal(found, [[[1, 5, 3]]])


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_bits_are_numpys(order):
    values = volume().astype(np.float32)
    wanted = np.clip(values, np.float32(CT.low), np.float32(CT.high))
    wanted = (wanted - np.float32(CT.mean)) / np.float32(CT.deviation)
    view = normalised("CT", order)
    assert view.read(Box.whole(view.shape)).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("axis", [None, 0, 2])
def test_bounds_are_those_that_a_pass_finds(name, axis):
    view = normalised(name)
    values = view.read(Box.whole(view.shape))
    others = tuple(a + 1 for a in range(3) if a != axis)
    low, high = statistics.bounds(view, axis)
    np.testing.assert_array_equal(low, values.min(others, keepdims=True))
    np.testing.assert_array_equal(high, values.max(others, keepdims=True))
