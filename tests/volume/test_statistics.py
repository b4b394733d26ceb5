import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume import statistics
from unet_pipeline.volume.views import ArrayView

volumes = arrays(
    np.float32,
    array_shapes(min_dims=4, max_dims=4, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(volumes, st.floats(0, 100), st.floats(0, 100))
def test_percentiles_are_exact(values, low, high):
    found = statistics.percentiles(ArrayView(values), (low, high))
    expected = np.percentile(values.astype(np.float64), [low, high])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


@given(volumes, st.booleans())
def test_mean_and_deviation_are_numpys(values, nonzero):
    chosen = values[values != 0] if nonzero else values
    mean, deviation = statistics.mean_and_deviation(ArrayView(values), nonzero)
    if chosen.size == 0:
        assert (mean, deviation) == (0.0, 1.0)
    else:
        wide = chosen.astype(np.float64)
        assert mean == pytest.approx(wide.mean(), rel=1e-9, abs=1e-9)
        assert deviation == pytest.approx(wide.std(), rel=1e-6, abs=1e-6)


def test_the_foreground_box_by_eye():
    values = np.zeros((2, 5, 6, 7), np.float32)
    values[0, 1, 2, 3] = 1
    values[1, 3, 2, 5] = 2
    values[1, 0, 0, 0] = -1
    assert statistics.foreground_box(ArrayView(values)) == Box((1, 2, 3), (4, 3, 6))
    assert statistics.foreground_box(ArrayView(-values[:, 1:, 1:])) is None
