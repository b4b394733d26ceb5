"""What changed between two label maps of each case of a cohort; no mask is needed.

The change of a volume is relative to the mean of both, and its limits of agreement are mean +- 1.96
standard deviations over the cases (Bland and Altman, Lancet 1986).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.evaluation.metrics import check_shapes
from unet_pipeline.volume.kernels import count_pairs

_LIMITS = 1.96  # standard deviations that hold 95 % of a normal distribution


@dataclass(frozen=True)
class LabelDifference:
    """A label in both maps of a case.

    Attributes
    ----------
    old_ml, new_ml
        Its volume.
    dice
        Of one map with the other; None where neither has it.
    """

    old_ml: float
    new_ml: float
    dice: float | None

    @property
    def percent(self) -> float | None:
        """Change of the volume in % of the mean of both; None where one has none of it."""
        if not self.old_ml or not self.new_ml:
            return None
        return 200 * (self.new_ml - self.old_ml) / (self.new_ml + self.old_ml)


@dataclass(frozen=True)
class CaseDifference:
    """Both label maps of a case, label by label (its number as text)."""

    case: str
    labels: Mapping[str, LabelDifference]

    @property
    def least_dice(self) -> float:
        """Dice of the label that changed most; 1 where there is none."""
        return min((one.dice for one in self.labels.values() if one.dice is not None), default=1.0)


@dataclass(frozen=True)
class Agreement:
    """A label over all cases.

    Attributes
    ----------
    both, came, went
        Cases in which both maps have it; only the new one; only the old one.
    mean_dice, least_dice
        Over the cases in which any has it.
    percent, low_percent, high_percent
        Mean change of the volume, and its limits of agreement; None below two cases.
    """

    label: str
    both: int
    came: int
    went: int
    mean_dice: float | None
    least_dice: float | None
    percent: float | None
    low_percent: float | None
    high_percent: float | None


@dataclass(frozen=True)
class DifferencesSummary:
    """What changed, over all cases.

    Attributes
    ----------
    agreements
        Each label, in numeric order.
    left_out
        Why cases could not be compared.
    only_old, only_new
        Cases that one of the outputs lacks.
    labels
        Name of each label, by its number as text.
    report, table
        URLs; empty without an output.
    changed_most
        The cases of the least Dice, that first.
    """

    cases: int
    agreements: tuple[Agreement, ...]
    left_out: tuple[str, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    labels: Mapping[str, str]
    report: str = ""
    table: str = ""
    changed_most: tuple[CaseDifference, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def sentence_of(one: Agreement, name: str) -> str:
    """Say in one line what changed of a label."""
    said = f"{name}: Dice {one.mean_dice or 0.0:.3f}"
    if one.percent is not None:
        limits = f"{one.low_percent:+.1f} to {one.high_percent:+.1f}"
        said += f", volume {one.percent:+.1f} % (limits of agreement {limits})"
    came = [f"{count} {what}" for count, what in ((one.came, "came"), (one.went, "went")) if count]
    return ", ".join([f"{said} in {one.both} cases", *came])


def differences_of(
    old_XYZ: NDArray[Any], new_XYZ: NDArray[Any], voxel_ml: float, labels: Iterable[int]
) -> dict[str, LabelDifference]:
    """Return what changed of each label.

    Parameters
    ----------
    old_XYZ, new_XYZ
        Label maps on one grid, integers of 0 or more.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_shapes(old_XYZ, new_XYZ)
    wanted = list(labels)
    both, only_old, only_new = np.zeros((3, max(wanted, default=0) + 1), np.int64)
    order = "F" if old_XYZ.flags.f_contiguous and new_XYZ.flags.f_contiguous else "C"
    flat = (each.ravel(order) for each in (old_XYZ, new_XYZ))  # type: ignore[arg-type]
    count_pairs(*flat, both, only_old, only_new)
    found = {}
    for label in wanted:
        shared, old, new = (int(counts[label]) for counts in (both, only_old, only_new))
        total = 2 * shared + old + new
        found[str(label)] = LabelDifference(
            round((shared + old) * voxel_ml, 6),
            round((shared + new) * voxel_ml, 6),
            round(2 * shared / total, 6) if total else None,
        )
    return found


def agreement_of(label: str, cases: Sequence[CaseDifference]) -> Agreement:
    """Return how both sets of label maps agree on a label."""
    each = [one.labels[label] for one in cases if label in one.labels]
    dice = [one.dice for one in each if one.dice is not None]
    changes = np.array([change for one in each if (change := one.percent) is not None])
    mean = low = high = None
    if len(changes) > 1:
        mean, spread = float(changes.mean()), _LIMITS * float(changes.std(ddof=1))
        low, high = mean - spread, mean + spread
    return Agreement(
        label,
        both=len(changes),
        came=sum(not one.old_ml and one.new_ml > 0 for one in each),
        went=sum(not one.new_ml and one.old_ml > 0 for one in each),
        mean_dice=float(np.mean(dice)) if dice else None,
        least_dice=min(dice, default=None),
        percent=mean,
        low_percent=low,
        high_percent=high,
    )
