"""The weighted scores of a call's windows, added in fixed point where they were computed."""

from collections.abc import Sequence

import numpy as np
import torch

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.merge import FIXED_POINT, LARGEST_SCORE, add_window

GROUP_VOXELS = 8_000_000  # that are weighted at a time on a device: 100 MB


class Total:
    """Sums of weight x score on the voxels of a frame; they take no memory before the first.

    Parameters
    ----------
    classes, frame
        Shape of the sums, and the model voxels that they stand for.
    importance_xyz
        Weight of each voxel of a window, on the device of the scores.
    threads
        CPU threads that add one window.
    """

    def __init__(
        self, classes: int, frame: Box, importance_xyz: torch.Tensor, threads: int
    ) -> None:
        self.frame, self._shape = frame, (classes, *frame.shape)
        self._importance, self._threads = importance_xyz, threads
        self._sums: torch.Tensor | None = None
        self._largest: list[torch.Tensor] = []  # on CUDA, of each window

    def sums(self) -> torch.Tensor:
        """Return the sums, shape CXYZ, on the device."""
        if self._sums is None:
            self._sums = _zeros(self._shape, self._importance.device)
        return self._sums

    def add(self, scores_Cxyz: torch.Tensor, window: Box) -> None:
        """Add the scores of a window, which lies inside the frame.

        Raises
        ------
        CaseError
            ``scores_not_finite``; on CUDA only ``check`` raises it, so as not to wait here.
        """
        if self._importance.is_cuda:
            self._largest.append(torch.stack(torch.aminmax(scores_Cxyz)).abs().amax())
            common_Cxyz = self.sums()[(slice(None), *window.within(self.frame))]
            add_in_groups(common_Cxyz, scores_Cxyz, self._importance)
            return
        start = window.shifted(-v for v in self.frame.start).start
        sums, scores, importance = self.sums(), scores_Cxyz, self._importance
        if not add_window(sums.numpy(), scores.numpy(), importance.numpy(), start, self._threads):
            raise _not_finite()

    def check(self) -> None:
        """Raise ``scores_not_finite`` if any score was NaN, infinite or out of range."""
        if self._largest and not float(torch.stack(self._largest).amax()) < LARGEST_SCORE:
            raise _not_finite()


def add_in_groups(
    sums_Cxyz: torch.Tensor, scores_Cxyz: torch.Tensor, importance_xyz: torch.Tensor
) -> None:
    """Add weighted scores to the sums of a window: ``add_window`` for any device.

    Classes are taken a few at a time, so that what is computed in between stays small.
    """
    step = max(1, GROUP_VOXELS // importance_xyz.numel())
    for first in range(0, len(scores_Cxyz), step):
        group = slice(first, first + step)
        weighted = (scores_Cxyz[group] * importance_xyz).mul_(FIXED_POINT).round_()
        sums_Cxyz[group] += weighted.to(torch.int64)


def _zeros(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return zeros; on a CPU in large pages, which NumPy asks for and PyTorch does not."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, dtype=np.int64))
    return torch.zeros(*shape, dtype=torch.int64, device=device)


def _not_finite() -> CaseError:
    return CaseError(
        "scores_not_finite",
        found="scores that are NaN, infinite or out of range",
        wanted="finite scores",
        remedy="Check the image's intensities and the bundle's preprocessing",
    )
