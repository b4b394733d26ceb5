"""What the reasons to look at a label map go by: a case's numbers, and what is said of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LEAST_CASES = 20  # with a label, from which its distribution is known
MOST = 99.0  # score of what cannot be measured in deviations
_MAD = 1.4826  # of a normal distribution: standard deviation / MAD

_Statistics = Mapping[str, Mapping[str, float | str]]  # of each label


@dataclass(frozen=True)
class Doubt:
    """What is unusual about one label of a case.

    Attributes
    ----------
    label
        Its number, as text.
    score
        Robust z.
    what
        In words: ``volume 3.1 ml, usually 17.2 to 25.4 ml``.
    """

    label: str
    score: float
    what: str


@dataclass(frozen=True)
class Case:
    """The statistics of a case, and what all its labels share, so that it is counted once."""

    name: str
    labels: _Statistics

    @cached_property
    def middle_mm(self) -> Mapping[str, float]:
        """Mean of the centroids of all labels along each axis, where two or more have one."""
        found = {}
        for axis in "xyz":
            values = (one.get(f"centroid_{axis}_mm") for one in self.labels.values())
            known_mm = [mm for mm in values if isinstance(mm, int | float)]
            if len(known_mm) > 1:
                found[axis] = sum(known_mm) / len(known_mm)
        return found


def robust_z(
    numbers: NDArray[np.float64], least: float, among: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return how far each number is from the median, in units of 1.4826 MAD, or of ``least``.

    Parameters
    ----------
    among
        What median and MAD are of. Default: the numbers.
    """
    among = numbers if among is None else among
    median = np.median(among)
    deviation = _MAD * float(np.median(np.abs(among - median)))
    scores: NDArray[np.float64] = np.abs(numbers - median) / max(deviation, least)
    return scores


def number(label: str, case: Case, name: str) -> float | None:
    """Return a statistic of a label, or None where it has none."""
    value = case.labels[label].get(name)
    return float(value) if isinstance(value, int | float) else None


def log_volume(label: str, case: Case) -> float | None:
    """Return the logarithm of the volume in ml; of a label that is cut it is not known."""
    ml = number(label, case, "volume_ml")
    if ml is None or ml <= 0 or case.labels[label].get("cut"):
        return None
    return float(np.log(ml))


def ml_text(log: float) -> str:
    """Write a volume, given by the logarithm of its ml, for people."""
    ml = float(np.exp(log))
    return f"{ml:,.0f} ml" if ml >= 100 else f"{ml:.3g} ml"
