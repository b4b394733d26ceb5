"""Bootstrap over cases, Wilcoxon's test and Holm's correction, with scipy as the oracle."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.evaluation.records import Interval
from unet_pipeline.evaluation.statistics import Bootstrap, holm, wilcoxon_p

DICE = np.random.default_rng(3).beta(40, 6, size=30)
P_VALUES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8)


def test_an_interval_agrees_with_scipy():
    ours = Bootstrap(resamples=20_000, seed=1).interval(DICE)
    theirs = scipy.stats.bootstrap(
        (DICE,), np.mean, n_resamples=20_000, method="percentile", random_state=2
    ).confidence_interval
    assert ours.value == pytest.approx(DICE.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=5e-4)


def test_equal_values_have_no_spread():
    interval = Bootstrap().interval([0.9] * 5)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.9, 0.9, 0.9))


def test_what_is_missing_is_left_out():
    assert Bootstrap().interval([0.5, np.nan, 0.5]).value == 0.5
    assert Bootstrap().interval([np.nan]) is None
    assert Bootstrap().interval([]) is None


def test_one_seed_gives_one_answer_and_another_seed_another():
    assert Bootstrap(seed=1).interval(DICE) == Bootstrap(seed=1).interval(DICE)
    assert Bootstrap(seed=1).interval(DICE) != Bootstrap(seed=2).interval(DICE)


def test_every_resampled_cohort_has_as_many_cases():
    weights = Bootstrap(resamples=50).weights(7)
    assert weights.shape == (50, 7)
    assert weights.sum(axis=1) == pytest.approx(np.ones(50))
    assert set(np.round(weights * 7).ravel()) <= set(range(8))


def test_a_one_sided_bound_is_the_end_of_a_wider_interval():
    """95 % of the means lie below it: the upper end of the two-sided 90 % interval."""
    bound = Bootstrap(confidence=0.95).upper_bound(DICE[:, None])[0]
    assert bound == Bootstrap(confidence=0.9).interval(DICE).high


def test_wilcoxon():
    differences = [0.01, 0.02, -0.005, 0.03, 0.015, 0.012, 0.022, -0.001]
    assert wilcoxon_p(differences) == scipy.stats.wilcoxon(differences).pvalue
    assert wilcoxon_p([0.0, 0.0, 0.0]) == 1.0
    assert wilcoxon_p([0.1]) == 1.0
    assert wilcoxon_p([0.1, np.nan]) == 1.0
    assert 0 < wilcoxon_p([0.0, 0.0, 0.1, 0.2, 0.3]) < 1


def test_holm_by_hand():
    """3 x 0.01, 2 x 0.03, 1 x 0.04; no step may fall below the one before."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(P_VALUES)
def test_holm_is_between_the_plain_values_and_bonferroni(p_values):
    corrected = holm(p_values)
    for plain, value in zip(p_values, corrected, strict=True):
        assert plain <= value <= min(1.0, len(p_values) * plain) or value == max(corrected)
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_intervals_are_plain_numbers():
    assert Bootstrap().interval(np.array([0.5, 0.7])) == Interval(
        0.6, pytest.approx(0.5), pytest.approx(0.7)
    )
