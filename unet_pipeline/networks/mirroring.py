"""Mirroring: scores averaged over the window and its mirror images (test-time augmentation).

As in nnU-Net (Isensee et al. 2021): every combination of the axes is flipped, scored, flipped back
and averaged, so n axes cost 2^n evaluations. It helps networks that were trained with mirroring.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from unet_pipeline.networks.registry import final_scores


class Mirrored(nn.Module):
    """A network whose scores are the mean over mirror images of its input.

    Parameters
    ----------
    axes
        Spatial axes of the model grid to flip, from 0.
    """

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        ordered = sorted(set(axes))
        self.flips = [
            tuple(axis + 2 for axis in chosen)
            for count in range(len(ordered) + 1)
            for chosen in combinations(ordered, count)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, C, ...)."""
        total: Tensor | None = None
        for flips in self.flips:
            scores = torch.flip(final_scores(self.network(torch.flip(x, flips))), flips)
            total = scores if total is None else total + scores
        assert total is not None  # noqa: S101  not to flip is one of them
        return total / len(self.flips)
