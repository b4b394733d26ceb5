"""What a training run did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_pipeline.evaluation.metrics import mean_dice
from unet_pipeline.training.data import Faults
from unet_pipeline.training.history import History, Spread


@dataclass(frozen=True)
class TrainReport:
    """What a training run did.

    Attributes
    ----------
    bundle
        URL of the bundle that was written.
    training, held_out
        Names of the cases trained on and of those kept aside.
    faults
        Cases left out, each with its error.
    spread
        Dice per label over the held-out cases, on their native grids, with the best weights.
        Empty without held-out cases.
    history
        Loss of each step, Dice of each validation, seconds of the steps.
    curves
        URL of the picture of both.
    names
        Of the labels.
    """

    bundle: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]
    faults: Faults
    spread: Mapping[int, Spread]
    history: History
    curves: str
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Wall time of the steps, without validations."""
        return self.history.seconds

    @property
    def dice(self) -> dict[int, float | None]:
        """Mean Dice per label; None where no held-out case has the label."""
        return {label: one.mean for label, one in self.spread.items()}

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels, or None without held-out cases."""
        return mean_dice(self.dice.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        best = self.history.best
        return {
            "bundle": self.bundle,
            "training": len(self.training),
            "held_out": list(self.held_out),
            "faults": [
                {"case": case, "code": e.code, "message": str(e)} for case, e in self.faults
            ],
            "dice": {str(label): value for label, value in self.dice.items()},
            "spread": {str(label): one.as_dict() for label, one in self.spread.items()},
            "steps": len(self.history.losses),
            "best_step": best.step if best else None,
            "seconds": self.seconds,
            "curves": self.curves,
        }
