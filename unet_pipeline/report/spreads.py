"""How a number is spread over cases, as a small picture: those of this run against the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 40
HALF = 10  # of the picture's height; a bin is one wide
_FENCE = 6.0  # deviations from the median that are drawn to scale; what is beyond has an end bin
_MAD = 1.4826  # of a normal distribution: standard deviation / MAD


@dataclass(frozen=True)
class Spread:
    """Cases in equal bins from ``low`` to ``high``; the end bins also hold what is beyond.

    Attributes
    ----------
    before, now
        Cases of earlier runs, and of this one, in each bin.
    median_now
        Of this run, None without cases.
    below, above
        Cases beyond the ends, of both.
    """

    low: float
    high: float
    before: tuple[int, ...]
    now: tuple[int, ...]
    median_now: float | None
    below: int
    above: int

    @property
    def up(self) -> str:
        """Bars of earlier runs as path of an SVG, upward from the middle."""
        return _bars(self.before, -1)

    @property
    def down(self) -> str:
        """Bars of this run, downward."""
        return _bars(self.now, 1)


def spread_of(before: Sequence[float], now: Sequence[float]) -> Spread | None:
    """Return how numbers are spread; None where there are fewer than two different ones."""
    every = np.array([*before, *now], float)
    if np.unique(every).size < 2:
        return None
    median = float(np.median(every))
    away = _FENCE * _MAD * float(np.median(np.abs(every - median)))
    least, most = float(every.min()), float(every.max())
    low, high = (max(least, median - away), min(most, median + away)) if away else (least, most)
    counts = [
        np.histogram(np.clip(np.array(one, float), low, high), BINS, (low, high))[0].tolist()
        for one in (before, now)
    ]
    return Spread(
        low,
        high,
        tuple(counts[0]),
        tuple(counts[1]),
        float(np.median(now)) if len(now) else None,
        int((every < low).sum()),
        int((every > high).sum()),
    )


def _bars(counts: Sequence[int], sign: int) -> str:
    """Return bars from the middle line, the largest of them half as high as the picture.

    >>> _bars([0, 2, 1], 1)
    'M1 10h1v10h-1zM2 10h1v5h-1z'
    """
    most = max(counts, default=0)
    return "".join(
        f"M{place} {HALF}h1v{sign * round(HALF * count / most, 2):g}h-1z"
        for place, count in enumerate(counts)
        if count
    )
