"""What changed between two label maps: by eye, and against Dice of another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_pipeline.evaluation.differences import (
    Agreement,
    CaseDifference,
    LabelDifference,
    agreement_of,
    differences_of,
)
from unet_pipeline.evaluation.metrics import dice_per_label

maps = arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 3))


def test_maps_by_eye():
    old = np.array([[[1, 1, 1, 0, 2, 9]]], np.uint8)
    new = np.array([[[1, 1, 0, 3, 0, 9]]], np.uint8)
    found = differences_of(old, new, 0.5, (1, 2, 3, 4))
    assert found == {
        "1": LabelDifference(1.5, 1.0, 0.8),
        "2": LabelDifference(0.5, 0.0, 0.0),
        "3": LabelDifference(0.0, 0.5, 0.0),
        "4": LabelDifference(0.0, 0.0, None),
    }
    assert found["1"].percent == pytest.approx(-40.0)
    assert found["2"].percent is None


@given(maps, maps, st.sampled_from("CF"))
def test_dice_is_that_of_a_mask(old, new, order):
    found = differences_of(np.asarray(old, order=order), np.asarray(new, order=order), 1.0, (1, 2))
    for label, dice in dice_per_label(new, old, (1, 2)).items():
        assert found[str(label)].dice == (None if dice is None else pytest.approx(dice, abs=1e-6))
        assert found[str(label)].old_ml == np.count_nonzero(old == label)


def test_agreement_by_eye():
    pairs = [(100, 110), (100, 90), (100, 100), (0, 5), (7, 0)]
    cases = [
        CaseDifference(str(i), {"1": LabelDifference(old, new, 0.9 if old and new else 0.0)})
        for i, (old, new) in enumerate(pairs)
    ]
    changes = [200 * 10 / 210, -200 * 10 / 190, 0]
    mean, spread = np.mean(changes), 1.96 * np.std(changes, ddof=1)
    assert agreement_of("1", cases) == Agreement(
        "1", both=3, came=1, went=1, mean_dice=pytest.approx(0.54), least_dice=0.0,
        percent=pytest.approx(mean), low_percent=pytest.approx(mean - spread),
        high_percent=pytest.approx(mean + spread),
    )  # fmt: skip
    assert min(cases, key=lambda one: one.least_dice).case == "3"


def test_one_case_has_no_limits():
    found = agreement_of("1", [CaseDifference("a", {"1": LabelDifference(1.0, 2.0, 0.5)})])
    assert (found.both, found.percent, found.low_percent) == (1, None, None)
