"""At which depth a nested U-Net is run, as data: a number, the mean of all, or as a rule says."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal

from unet_pipeline.records import json_text

Depth = int | Literal["mean", "adaptive"]
ADAPTIVE = "configs/adaptive.json"
_NEEDED = ("limit", "multiply_adds_share")
_MOST_POINTS, _HUGE = 1000, 1e300


@dataclass(frozen=True)
class AdaptiveRule:
    """When to stop going deeper.

    Attributes
    ----------
    limit
        Largest doubt of a window that is decided.
    promised_loss
        Dice that the rule may cost against the full depth, by its calibration.
    curve
        For each limit that was tried: ``limit``, ``dice``, ``loss``, ``loss_bound``, ``mean_depth``
        and ``multiply_adds_share``.
    cohort
        What it was calibrated on: ``cases``, ``digest``.
    """

    limit: float
    promised_loss: float
    curve: tuple[Mapping[str, float], ...] = ()
    cohort: Mapping[str, Any] | None = None

    @property
    def multiply_adds_share(self) -> float:
        """Multiply-adds of a window as a share of the full ones: mean of the calibration."""
        at_limit = (point for point in self.curve if point["limit"] >= self.limit)
        return next((point["multiply_adds_share"] for point in at_limit), 1.0)

    @classmethod
    def parse(cls, data: bytes) -> "AdaptiveRule":
        """Read a rule as ``as_bytes`` writes it; ``ValueError`` or ``KeyError`` if it is none."""
        found = json.loads(data)
        limit, promised = _number(found["limit"], inf), _number(found["promised_loss"], 1.0)
        curve = found.get("curve", [])
        if not isinstance(curve, list) or len(curve) > _MOST_POINTS:
            raise ValueError(f"a curve must be a list of at most {_MOST_POINTS} points")
        points = tuple({name: _number(v, inf, -inf) for name, v in one.items()} for one in curve)
        if not all(set(_NEEDED) <= set(point) for point in points):
            raise ValueError(f"a point of the curve must have {' and '.join(_NEEDED)}")
        cohort = found.get("cohort")
        if cohort is not None and not isinstance(cohort, dict):
            raise ValueError("cohort must be an object")
        return cls(limit, promised, points, cohort)

    def as_bytes(self) -> bytes:
        """Return the rule as a JSON file."""
        return (json_text(asdict(self), indent=2) + "\n").encode()


def _number(value: Any, most: float, least: float = 0.0) -> float:
    """Return a number from ``least`` to ``most``; ``ValueError`` for all else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or abs(value) > _HUGE or not least <= value <= most:
        raise ValueError(f"a number from {least:g} to {most:g} was wanted")
    return float(value)
