"""Predict the Dice of a label map that has no mask, from how sure the network is of it.

Of each label, Dice rises with the confidence along its border: the curve is an isotonic regression
over cases with masks (Barlow et al., Statistical Inference under Order Restrictions, 1972). The
interval is of the residuals of each case from the curve of all others (jackknife; Barber et al.,
Predictive Inference with the Jackknife+, 2021), in units of (1 - confidence) squared, so that it is
wider for what is less sure. Below the least confidence that was seen nothing is known, and no Dice
is predicted.

A calibration lies in the bundle, with its curve, and counts for its weights alone, and for runs
with the same windows, depth, mirroring and steps.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unet_pipeline.records import json_text

CALIBRATION = "configs/confidence.json"  # in a bundle
LEAST_CASES = 20  # of a label, for an interval of 90 %
LEVEL = 0.9  # share of cases whose Dice lies within
FEATURE = "confidence_border"
PREDICTED = ("predicted_dice", "predicted_dice_low", "predicted_dice_high")
SETTINGS = (
    *("roi_size", "overlap", "blend", "depth", "mirror", "adaptive_limit"),
    *("postprocess", "within"),
)
FORMAT = 1
_MOST_POINTS, _MOST_LABELS, _MOST_TEXT, _MOST_CASES = 10_000, 65_536, 100, 10**9
_LEAST_DOUBT = 0.01  # that an interval is reckoned with
_DECIMALS = 4


@dataclass(frozen=True)
class LabelCurve:
    """What is known of one label.

    Attributes
    ----------
    cases
        That it was calibrated on.
    least
        Smallest confidence among them.
    confidence, dice
        Points of the curve, both rising; linear between them, level beyond.
    low, high
        How far the Dice of a case lies from the curve, where confidence is 0; elsewhere times
        (1 - confidence) squared.
    """

    cases: int
    least: float
    confidence: tuple[float, ...]
    dice: tuple[float, ...]
    low: float
    high: float

    def __post_init__(self) -> None:
        rising = all(np.all(np.diff(each) >= 0) for each in (self.confidence, self.dice))
        fits = 0 < len(self.confidence) == len(self.dice) <= _MOST_POINTS
        if not fits or not rising or not self.low <= self.high:
            raise ValueError("a curve must rise, and its interval, too")

    def predict(self, confidence: float) -> tuple[float, float, float] | None:
        """Return the Dice with its interval; None below the least confidence that was seen."""
        if confidence < self.least:
            return None
        value = float(np.interp(confidence, self.confidence, self.dice))
        unit = unit_of(confidence)
        low, high = (min(max(value + end * unit, 0.0), 1.0) for end in (self.low, self.high))
        return value, min(low, value), max(high, value)


@dataclass(frozen=True)
class DiceCalibration:
    """The calibration of a bundle.

    Attributes
    ----------
    weights
        Digest of the weights that it counts for.
    settings
        Those of ``SETTINGS`` that the label maps were made with.
    labels
        What is known of each label, by its number as text.
    cohort
        What it was calibrated on: ``cases``, ``names`` (a digest).
    """

    weights: str
    settings: Mapping[str, Any]
    labels: Mapping[str, LabelCurve]
    cohort: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        weights: str,
        settings: Mapping[str, Any],
        labels: Mapping[str, LabelCurve],
        cases: Iterable[str],
    ) -> "DiceCalibration":
        """Return the calibration on cases of these names."""
        names = sorted(cases)
        digest = f"sha256:{hashlib.sha256(json_text(names).encode()).hexdigest()}"
        return cls(weights, relevant(settings), labels, {"cases": len(names), "names": digest})

    def holds_for(self, weights: str, settings: Mapping[str, Any]) -> bool:
        """Say whether it counts for label maps of these weights and settings."""
        return weights == self.weights and relevant(settings) == self.settings

    def predictions(
        self, statistics: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, float]]:
        """Return ``PREDICTED`` of each label of a case, by its number as text.

        Below what was calibrated there is no ``predicted_dice``, and the interval begins at 0.
        """
        found = {}
        for label, curve in self.labels.items():
            confidence = statistics.get(label, {}).get(FEATURE)
            if not isinstance(confidence, int | float):
                continue
            values = curve.predict(confidence)
            if values is None:
                at_least = curve.predict(curve.least)
                values = (math.nan, 0.0, at_least[2] if at_least else 1.0)
            named = zip(PREDICTED, values, strict=True)
            found[label] = {name: round(v, _DECIMALS) for name, v in named if not math.isnan(v)}
        return found

    def as_bytes(self) -> bytes:
        """Return the calibration as a JSON file."""
        said = {"format": FORMAT, "feature": FEATURE, "level": LEVEL, **asdict(self)}
        return (json_text(said, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> "DiceCalibration":
        """Read a calibration as ``as_bytes`` writes it.

        Raises
        ------
        ValueError, KeyError, TypeError, AttributeError, RecursionError
            If it is none.
        """
        said = json.loads(data, parse_constant=_no_number)
        made = (said["format"], said["feature"], said["level"])
        if made != (FORMAT, FEATURE, LEVEL) or len(said["labels"]) > _MOST_LABELS:
            raise ValueError(f"format {FORMAT}, {FEATURE} and level {LEVEL:g} were wanted")
        labels = {_text(label): _curve(one) for label, one in said["labels"].items()}
        cases, names = _count(said["cohort"]["cases"]), _text(said["cohort"]["names"])
        settings = said["settings"]
        if not isinstance(settings, dict) or settings.keys() - set(SETTINGS):
            raise ValueError(f"settings may be {', '.join(SETTINGS)}")
        cohort = {"cases": cases, "names": names}
        return cls(_text(said["weights"]), settings, labels, cohort)


def relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's settings can change a confidence, in plain JSON types."""
    kept = {name: settings[name] for name in SETTINGS if settings.get(name) not in (None, [])}
    plain: dict[str, Any] = json.loads(json_text(kept))
    return plain


def unit_of(confidence: float) -> float:
    """Return in which unit residuals are told: wider for what is less sure."""
    return max(1 - confidence, _LEAST_DOUBT) ** 2


def _curve(said: Mapping[str, Any]) -> LabelCurve:
    middles, levels = (tuple(_share(one) for one in said[name]) for name in ("confidence", "dice"))
    low, high = (_within(said[name], -1e6, 1e6) for name in ("low", "high"))
    return LabelCurve(_count(said["cases"]), _share(said["least"]), middles, levels, low, high)


def _share(value: Any) -> float:
    return _within(value, 0.0, 1.0)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_CASES:
        raise ValueError("a number of cases was wanted")
    return value


def _within(value: Any, least: float, most: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        raise ValueError(f"a number from {least:g} to {most:g} was wanted")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise ValueError(f"a text of at most {_MOST_TEXT} characters was wanted")
    return value


def _no_number(name: str) -> None:
    raise ValueError(name)
