"""The choice of a depth, on tables of Dice that a reader can check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.evaluation.choice import choose_depth, remarks_on
from unet_pipeline.evaluation.statistics import Bootstrap

BOOTSTRAP = Bootstrap(resamples=300)
CASES = 24
SPREAD = np.linspace(0.80, 0.95, CASES)[:, None]  # hard cases and easy ones


def choose(dice_CD, tolerance=0.005, bootstrap=BOOTSTRAP):
    return choose_depth(np.asarray(dice_CD), tolerance=tolerance, bootstrap=bootstrap)


def gaining(*dice: float) -> np.ndarray:
    """The same gain of a depth in every case, shape (cases, depths)."""
    return SPREAD + np.array(dice)


def codes(choice, cases=CASES):
    return [remark.code for remark in remarks_on(choice, cases)]


def test_the_shallowest_that_is_near_enough():
    """L1 loses 0.1 in every case, L2 0.002, L3 0.001: how hard a case is does not matter."""
    choice = choose(gaining(-0.1, -0.002, -0.001, 0.0))
    assert (choice.depth, choice.best) == (2, 4)
    assert choice.loss_bounds == pytest.approx((0.1, 0.002, 0.001, 0.0))
    assert choice.shares == (0.0, 1.0, 0.0, 0.0)
    assert codes(choice) == []


def test_equal_depths_choose_the_cheapest():
    choice = choose(SPREAD + np.zeros(4))
    assert (choice.depth, choice.best) == (1, 1)


def test_a_loss_of_exactly_the_tolerance_is_allowed():
    assert choose(gaining(-0.005, 0.0)).depth == 1
    assert choose(gaining(-0.0051, 0.0)).depth == 2


def test_the_best_need_not_be_the_deepest():
    choice = choose(gaining(-0.1, 0.02, 0.0, -0.01))
    assert (choice.depth, choice.best) == (2, 2)


def test_a_loss_that_is_small_only_on_average_is_not_sure_enough():
    """L1 loses 0.12 in one case out of 24, and nothing in the others: 0.005 on average."""
    dice_CD = np.repeat(SPREAD, 2, axis=1)
    dice_CD[7, 0] -= 0.12
    choice = choose(dice_CD, tolerance=0.006)
    assert (choice.depth, choice.best) == (2, 2)
    assert choice.loss_bounds[0] == pytest.approx(0.015)  # the case three times in a cohort


def test_a_choice_that_hangs_on_the_cases_is_called_unstable():
    """The bound of L1 lies near the tolerance, so other cohorts of the kind choose otherwise."""
    losses = np.where(np.arange(CASES) % 2, 0.0, 0.02)
    choice = choose(SPREAD + np.stack([-losses, np.zeros(CASES)], axis=1), tolerance=0.0134)
    assert choice.depth == 1
    assert 0.2 < choice.share < 0.8
    (remark,) = remarks_on(choice, CASES)
    assert remark.code == "choice_unstable"
    assert f"L1 is chosen on {choice.share:.0%}" in remark.text
    assert f"L2 in {choice.shares[1]:.0%}" in remark.text


def test_few_cases_are_said_to_be_few():
    choice = choose(gaining(-0.1, 0.0)[:4])
    assert codes(choice, 4) == ["few_cases"]
    assert codes(choice, 20) == []


@given(seed=st.integers(0, 1000), tolerance=st.floats(0.0, 0.02), more=st.floats(0.0, 0.02))
@settings(max_examples=20)
def test_more_tolerance_never_chooses_deeper(seed, tolerance, more):
    dice_CD = SPREAD + np.random.default_rng(seed).normal(0, 0.01, size=(CASES, 4))
    careful, lenient = choose(dice_CD, tolerance), choose(dice_CD, tolerance + more)
    assert lenient.depth <= careful.depth <= careful.best
    assert sum(lenient.shares) == pytest.approx(1.0)


def test_more_confidence_never_chooses_shallower():
    dice_CD = SPREAD + np.random.default_rng(5).normal([-0.003, -0.002, 0.0], 0.01, (CASES, 3))
    bounds = [
        choose(dice_CD, bootstrap=Bootstrap(300, 0, confidence)).loss_bounds
        for confidence in (0.5, 0.8, 0.99)
    ]
    assert np.all(np.diff(np.array(bounds), axis=0) >= 0)
