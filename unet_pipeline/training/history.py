"""What a training has seen so far: a loss per step, Dice per validation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

from unet_pipeline.evaluation.metrics import mean_dice

Dice = Mapping[int, float | None]


@dataclass(frozen=True)
class Validation:
    """The Dice after so many steps.

    Attributes
    ----------
    dice
        Mean over the cases per label; None where no case has the label.
    seconds
        What the validation took.
    """

    step: int
    dice: Dice
    seconds: float

    @property
    def mean(self) -> float:
        """Mean over the labels; 0 if no case has any."""
        return mean_dice(self.dice.values()) or 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        dice = {str(label): value for label, value in self.dice.items()}
        return {"step": self.step, "dice": dice, "mean": self.mean, "seconds": self.seconds}


@dataclass(frozen=True)
class Spread:
    """The Dice of one label over cases.

    Attributes
    ----------
    cases
        How many cases have the label, in the mask or in the label map.
    mean, deviation, low, high
        Mean, standard deviation (of a sample), smallest and largest; None without cases, and the
        deviation of a single one.
    """

    cases: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Measure the Dice of some cases."""
        if not values:
            return cls(0, None, None, None, None)
        deviation = stdev(values) if len(values) > 1 else None
        return cls(len(values), fmean(values), deviation, min(values), max(values))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass
class History:
    """The course of a training.

    Attributes
    ----------
    losses, rates
        Loss and learning rate of each step.
    seconds
        Wall time of the steps, over all sittings, without validations.
    """

    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def best(self) -> Validation | None:
        """The validation with the largest mean Dice, of equal ones the last; None before any."""
        return max(reversed(self.validations), key=lambda one: one.mean, default=None)

    @property
    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps."""
        return fmean(self.losses[-max(1, len(self.losses) // 10) :])

    @property
    def since_better(self) -> int:
        """Validations since one was better than all before it; an equal one is not better."""
        means = [one.mean for one in self.validations]
        return len(means) - 1 - means.index(max(means)) if means else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "losses": list(self.losses),
            "rates": list(self.rates),
            "validations": [one.as_dict() for one in self.validations],
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "History":
        """Return the history that ``as_dict`` was taken of."""
        validations = [
            Validation(one["step"], {int(k): v for k, v in one["dice"].items()}, one["seconds"])
            for one in kept["validations"]
        ]
        return cls(list(kept["losses"]), list(kept["rates"]), validations, kept["seconds"])


def mean_per_label(scores: Sequence[Dice]) -> dict[int, float | None]:
    """Return the mean Dice per label over the cases, or None where no case has the label."""
    labels = sorted({label for score in scores for label in score})
    return {label: mean_dice(score.get(label) for score in scores) for label in labels}


def spread_per_label(scores: Sequence[Dice]) -> dict[int, Spread]:
    """Return the Dice of each label over the cases that have it."""
    labels = sorted({label for score in scores for label in score})
    found = {label: [score.get(label) for score in scores] for label in labels}
    return {
        label: Spread.of([value for value in values if value is not None])
        for label, values in found.items()
    }
