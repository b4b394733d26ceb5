"""Adaptive depth: every window is scored at the shallowest head; the undecided go one level deeper.

A window is undecided at a depth while its *doubt* is over the limit. The doubt is the sum over its
voxels of 1 - (p1 - p2), where p1 and p2 are the probabilities of the two likeliest classes, for
each voxel of foreground (the sum of the probabilities of all classes but the background), so that
a window of little foreground counts as much as a full one. Nodes that were computed are used
again: a window that goes to the end costs what the full network costs.

The limit is calibrated on a cohort to a promised loss of Dice and lies in the bundle, with the
curve that it was chosen from (``training/calibrate.py``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from unet_pipeline.networks.nested import NestedUNet
from unet_pipeline.records import json_text

ADAPTIVE = "configs/adaptive.json"
_NEEDED = ("limit", "multiply_adds_share")
_MOST_POINTS, _HUGE = 1000, 1e300
LEAST_FOREGROUND = 0.001  # of a window: so that one without foreground can be decided


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


def doubt(scores_BCXYZ: Tensor) -> Tensor:
    """Return how undecided each window is, 0 or more, shape (B,)."""
    probabilities = torch.softmax(scores_BCXYZ.float(), dim=1)
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    undecided = (1 - (first - second)).flatten(1).mean(dim=1)
    foreground = (1 - probabilities[:, 0]).flatten(1).mean(dim=1)
    return undecided / (foreground + LEAST_FOREGROUND)


class AdaptiveDepth(nn.Module):
    """A nested U-Net that goes only as deep as each window needs.

    Batches keep their shape at every depth (undecided windows move to the front, the rest is
    ballast), so that neither a window's scores nor its doubt depend on its neighbours in the batch:
    the last bits of a mean over voxels depend on how many windows there are.
    """

    def __init__(self, network: NestedUNet, limit: float) -> None:
        super().__init__()
        self.network, self.limit = network, limit
        self.windows_at_depth = [0] * network.depth

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, C, ...), of each window at its own depth."""
        network, size = self.network, x.shape[0]
        nodes = {(0, 0): network.get_submodule("conv_0_0")(x)}
        undecided = torch.arange(size, device=x.device)
        result: Tensor | None = None
        for depth in range(1, network.depth + 1):
            network.extend(nodes, depth)
            scores = network.score(nodes, depth)
            result = scores.clone() if result is None else result
            result[undecided] = scores[: len(undecided)]
            goes_on = doubt(scores)[: len(undecided)] > self.limit  # of a fixed shape: see above
            if depth == network.depth:
                goes_on = torch.zeros_like(goes_on)
            self.windows_at_depth[depth - 1] += int((~goes_on).sum())
            if not goes_on.any():
                break
            undecided = undecided[goes_on]
            rows = _front(torch.nonzero(goes_on).flatten(), size)
            nodes = {place: node[rows] for place, node in nodes.items()}
        assert result is not None  # noqa: S101  there is at least one depth
        return result


def _front(rows: Tensor, size: int) -> Tensor:
    """Return the rows, filled up to ``size`` with the first of them."""
    return torch.cat([rows, rows[:1].expand(size - len(rows))])


def mean_depth(windows_at_depth: Sequence[int]) -> float:
    """Return the mean depth of windows that ended at depth 1, 2, ..."""
    total = sum(windows_at_depth)
    weighted = sum(depth * count for depth, count in enumerate(windows_at_depth, start=1))
    return weighted / total if total else 0.0
