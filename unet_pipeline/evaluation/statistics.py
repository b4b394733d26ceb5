"""What a cohort says and how surely: bootstrap over cases, paired tests, Holm's correction.

Cases are what is drawn at random, so cases are resampled: with replacement, as many as there are
(Efron 1979). Intervals are of percentiles. One seed gives one set of resampled cohorts, so scores
of the same cases are always resampled together, which makes differences paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from unet_pipeline.evaluation.records import Interval

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """How cohorts are resampled.

    Attributes
    ----------
    confidence
        Of an interval, both sides together, and of a one-sided bound; between 0 and 1.
    """

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def weights(self, cases: int) -> Float:
        """Return how often each case is in each resampled cohort, over their number: (R, N)."""
        return _weights(cases, self.resamples, self.seed)

    def interval(self, values: Sequence[float] | Float) -> Interval | None:
        """Return the mean of the values that are not NaN, with its percentile interval."""
        known = _known(values)
        if not len(known):
            return None
        tail = 50 * (1 - self.confidence)
        means = self.weights(len(known)) @ known
        low, high = np.percentile(means, [tail, 100 - tail])
        return Interval(float(known.mean()), float(low), float(high))

    def upper_bound(self, values: Float) -> Float:
        """Return the one-sided upper bound of the mean of each column of ``values``, (N, K)."""
        means = self.weights(len(values)) @ values
        return np.asarray(np.percentile(means, 100 * self.confidence, axis=0), dtype=np.float64)


def wilcoxon_p(differences: Sequence[float] | Float) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test; 1 where nothing differs.

    Zeros are shared between the ranks (Pratt 1959), so that cases without a difference count.
    """
    known = _known(differences)
    if not np.any(known):
        return 1.0
    return float(wilcoxon(known, zero_method="pratt").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for being several (Holm 1979), in the order given."""
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    steps = [min(1.0, (count - rank) * p_values[index]) for rank, index in enumerate(order)]
    corrected = np.empty(count)
    corrected[order] = np.maximum.accumulate(steps) if steps else []
    return [float(value) for value in corrected]


@lru_cache(maxsize=8)
def _weights(cases: int, resamples: int, seed: int) -> Float:
    drawn = np.random.default_rng(seed).multinomial(
        cases, np.full(cases, 1 / cases), size=resamples
    )
    return np.asarray(drawn / cases, dtype=np.float64)


def _known(values: Sequence[float] | Float) -> Float:
    array = np.asarray(values, dtype=np.float64)
    return array[~np.isnan(array)]
