"""Predicted Dice: the curve and its interval, on cohorts that are made up; and as it is stored."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidecars import odd_texts

from unet_pipeline.evaluation.calibration import calibrate, fit_curve
from unet_pipeline.evaluation.prediction import (
    FEATURE,
    LEAST_CASES,
    LEVEL,
    DiceCalibration,
    LabelCurve,
)

WEIGHTS = "sha256:" + 64 * "0"
SETTINGS = {"roi_size": [32, 32, 32], "overlap": 0.5, "depth": None, "mirror": [], "batch": 4}
CURVE = LabelCurve(20, 0.5, (0.5, 0.9), (0.4, 0.8), -0.2, 0.5)
KNOWN = DiceCalibration.of(WEIGHTS, SETTINGS, {"1": CURVE}, ["a", "b"])
SAID = json.loads(KNOWN.as_bytes())


def test_a_prediction_by_hand():
    """Half way up the curve; the interval is -0.2 and 0.5, times the square of 1 - 0.7."""
    assert CURVE.predict(0.7) == pytest.approx((0.6, 0.582, 0.645))
    assert CURVE.predict(0.95) == pytest.approx((0.8, 0.7995, 0.80125))
    assert CURVE.predict(0.49) is None


def test_below_what_was_seen_there_is_no_dice():
    said = {"1": {FEATURE: 0.7}, "2": {FEATURE: 0.7}}
    assert KNOWN.predictions(said) == {
        "1": {"predicted_dice": 0.6, "predicted_dice_low": 0.582, "predicted_dice_high": 0.645}
    }
    assert KNOWN.predictions({"1": {FEATURE: 0.1}}) == {
        "1": {"predicted_dice_low": 0.0, "predicted_dice_high": 0.525}
    }
    assert KNOWN.predictions({"1": {"voxels": 0}}) == {}


def cohort(count, seed):
    """Dice that rises with confidence, and scatters the more the less sure the network is."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 0.95, count)
    return confidence, np.clip(confidence + 0.3 * (1 - confidence) * rng.normal(size=count), 0, 1)


def test_the_interval_holds_as_many_cases_as_it_says():
    held = []
    for seed in range(8):
        curve = fit_curve(*cohort(60, seed))
        others = zip(*cohort(200, 100 + seed), strict=True)
        found = [(curve.predict(one), dice) for one, dice in others]
        held += [low <= dice <= high for (_, low, high), dice in filter(lambda f: f[0], found)]
    assert abs(np.mean(held) - LEVEL) < 0.04


def test_the_curve_is_the_isotonic_regression():
    dice = [0.1, 0.3, 0.2, *np.linspace(0.4, 0.9, LEAST_CASES - 3)]
    curve = fit_curve(np.linspace(0.1, 0.9, LEAST_CASES), dice)
    assert curve.dice[:2] == pytest.approx((0.1, 0.25))
    assert curve.dice[2:] == pytest.approx(dice[3:], abs=1e-6)


def test_too_few_cases_make_no_curve():
    sure, dice = {"1": {FEATURE: 0.8}, "2": {FEATURE: 0.9}}, {"1": 0.9, "2": None, "3": 0.4}
    assert calibrate([(sure, dice)] * (LEAST_CASES - 1)) == {}
    assert list(calibrate([(sure, dice)] * LEAST_CASES)) == ["1"]


def test_it_holds_for_its_weights_and_settings_alone():
    assert KNOWN.holds_for(WEIGHTS, {**SETTINGS, "batch": 1, "threads": 2})
    assert not KNOWN.holds_for(WEIGHTS, {**SETTINGS, "depth": "mean"})
    assert not KNOWN.holds_for(WEIGHTS, {**SETTINGS, "overlap": 0.25})
    assert not KNOWN.holds_for(WEIGHTS[:-1] + "1", SETTINGS)


def test_a_calibration_is_read_as_it_was_written():
    assert DiceCalibration.parse(KNOWN.as_bytes()) == KNOWN
    curve = SAID["labels"]["1"]
    wrong = [
        {**SAID, "format": 2}, {**SAID, "feature": "confidence"}, {**SAID, "labels": []},
        {**SAID, "settings": {"threads": 1}}, {**SAID, "cohort": {"cases": -1, "names": ""}},
        *({**SAID, "labels": {"1": {**curve, **one}}} for one in (
            {"dice": [0.8, 0.4]}, {"confidence": [0.5]}, {"confidence": [], "dice": []},
            {"least": 2}, {"low": 1.0, "high": 0.0}, {"cases": 2.5})),
    ]  # fmt: skip
    for said in wrong:
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            DiceCalibration.parse(json.dumps(said).encode())


@given(st.sampled_from(["least", "low", "high", "cases", "confidence", "dice"]), odd_texts)
def test_a_strangers_calibration_predicts_shares_or_is_refused(name, text):
    curve = {**SAID["labels"]["1"], name: "HERE"}
    data = json.dumps({**SAID, "labels": {"1": curve}}).replace('"HERE"', text).encode()
    try:
        found = DiceCalibration.parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    for sure in (0.0, 0.6, 1.0, 1e12):
        for values in found.predictions({"1": {FEATURE: sure}}).values():
            assert all(0 <= value <= 1 for value in values.values())
