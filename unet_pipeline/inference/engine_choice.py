"""An engine that was chosen, and why, as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from unet_pipeline.choices import EngineName, EngineWish


@dataclass(frozen=True)
class Agreement:
    """How the labels of an engine agree with those of eager PyTorch in float32.

    Attributes
    ----------
    voxels
        Voxels that were compared.
    differing, decided
        Voxels whose labels differ, and those of them that are no near tie.
    largest_margin
        Of the voxels whose labels differ; 0 without one.
    near_tie
        Margin below which a voxel is a near tie; the smallest of all windows.
    largest_difference
        Between the scores of the two, in any channel.
    steady
        Whether a window has the same scores, to the bit, at every place of a batch.
    """

    voxels: int
    differing: int
    decided: int
    largest_margin: float
    near_tie: float
    largest_difference: float
    steady: bool = True

    @property
    def passes(self) -> bool:
        """Whether the engine may be used."""
        return self.steady and self.decided == 0 and isfinite(self.largest_difference)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        finite = isfinite(self.largest_difference)
        largest = float(f"{self.largest_difference:.3g}") if finite else None
        return {**asdict(self), "largest_difference": largest}


@dataclass(frozen=True)
class EngineChoice:
    """An engine, and why.

    Attributes
    ----------
    seconds_per_window
        In the network, of each engine that was measured; empty if eager was asked for.
    agreement
        With eager PyTorch; None for eager.
    left_out
        Why other engines could not be used.
    """

    asked: EngineWish
    engine: EngineName
    seconds_per_window: Mapping[EngineName, float] = field(default_factory=dict)
    agreement: Agreement | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types: what the sidecar says."""
        return {
            "asked": self.asked,
            "used": self.engine,
            "seconds_per_window": {k: round(v, 6) for k, v in self.seconds_per_window.items()},
            "agreement": self.agreement and self.agreement.as_dict(),
            "left_out": dict(self.left_out),
        }
