import numpy as np
import pytest

from unet_pipeline.report.axes import Axis


def test_values_lie_between_the_ends_of_an_axis():
    upward = Axis(2, 4, 100, 0)  # pixels count from the top
    assert [upward.pixel(value) for value in (2, 3, 3.5, 4)] == [100, 50, 25, 0]


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 1500, 5, [0, 500, 1000, 1500]),
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.33, 0.38, 5, [0.33, 0.34, 0.35, 0.36, 0.37, 0.38]),
        (-7, 12, 6, [-5, 0, 5, 10]),
    ],
)
def test_ticks_are_round_numbers(low, high, most, ticks):
    assert np.allclose(Axis(low, high, 0, 1).ticks(most), ticks)
