"""Adaptive depth: every window is scored at the shallowest head; the undecided go one level deeper.

A window is undecided at a depth while its *doubt* is over the limit. The doubt is the sum over its
voxels of 1 - (p1 - p2), where p1 and p2 are the probabilities of the two likeliest classes, for
each voxel of foreground (the sum of the probabilities of all classes but the background), so that
a window of little foreground counts as much as a full one. Nodes that were computed are used
again: a window that goes to the end costs what the full network costs.

The limit is calibrated on a cohort to a promised loss of Dice and lies in the bundle, with the
curve that it was chosen from (``training/calibrate.py``).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unet_pipeline.networks.nested import NestedUNet

LEAST_FOREGROUND = 0.001  # of a window: so that one without foreground can be decided


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
