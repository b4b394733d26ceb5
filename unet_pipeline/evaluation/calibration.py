"""Learn what Dice to expect of a confidence from cases with masks: curves of ``prediction``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from unet_pipeline.evaluation.prediction import FEATURE, LEAST_CASES, LEVEL, LabelCurve, unit_of


def fit_curve(confidence: Sequence[float], dice: Sequence[float]) -> LabelCurve | None:
    """Return the curve of a label over its cases; None for fewer than ``LEAST_CASES``."""
    if len(confidence) < LEAST_CASES:
        return None
    order = np.argsort(confidence, kind="stable")
    x, y = np.asarray(confidence, float)[order], np.asarray(dice, float)[order]
    points = _isotonic(x, y)
    units = np.array([unit_of(one) for one in x])
    kept = np.ones(len(x), bool)
    residuals = np.empty(len(x))
    for index in range(len(x)):
        kept[index] = False
        residuals[index] = y[index] - np.interp(x[index], *_isotonic(x[kept], y[kept]))
        kept[index] = True
    low, high = _conformal(residuals / units)
    middles, levels = (tuple(np.round(each, 6).tolist()) for each in points)
    least, low, high = (round(float(one), 6) for one in (x[0], low, high))
    return LabelCurve(len(x), least, middles, levels, low, high)


def calibrate(
    cases: Iterable[tuple[Mapping[str, Mapping[str, Any]], Mapping[str, float | None]]],
) -> dict[str, LabelCurve]:
    """Return the curve of each label that enough cases have.

    Parameters
    ----------
    cases
        Statistics and Dice of each, by label.
    """
    seen: dict[str, list[tuple[float, float]]] = {}
    for statistics, dice in cases:
        for label, value in dice.items():
            confidence = statistics.get(label, {}).get(FEATURE)
            if value is not None and isinstance(confidence, int | float):
                seen.setdefault(label, []).append((float(confidence), float(value)))
    curves = {label: fit_curve(*zip(*pairs, strict=True)) for label, pairs in seen.items()}
    return {label: curve for label, curve in sorted(curves.items()) if curve is not None}


def _isotonic(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middle of each level of the regression, and the Dice there; ``x`` is sorted."""
    found = isotonic_regression(y)
    starts = found.blocks[:-1]
    middles = np.add.reduceat(x, starts) / np.diff(found.blocks)
    return middles, np.clip(found.x[starts], 0, 1)


def _conformal(residuals: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the interval that a further residual lies in with ``LEVEL``."""
    ordered, count = np.sort(residuals), len(residuals)
    rank = min(math.ceil((count + 1) * (1 + LEVEL) / 2), count)
    return float(ordered[count - rank]), float(ordered[rank - 1])
