"""The weighted scores of a call's windows, added in fixed point where they were computed."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Box, index3
from unet_pipeline.tiling.merge import FIXED_POINT, LARGEST_SCORE, add_window

GROUP_VOXELS = 8_000_000  # that are weighted at a time on a device: 100 MB


class ScoreAccumulator:
    """Sums of weight x score on the voxels of a box; they take no memory before the first.

    Along one axis there may be fewer places than voxels. Voxel i then shares its place with voxel
    i + ``length``, and one of the two must have been cleared before the other is added to.

    Parameters
    ----------
    classes, box
        Shape of the sums, and the model voxels that they stand for.
    importance_xyz
        Weight of each voxel of a window, on the device that the sums are to lie on: that of the
        scores, or the host.
    threads
        CPU threads that add one window.
    axis, length
        How many places there are along an axis; none for as many as voxels.
    """

    def __init__(
        self,
        classes: int,
        box: Box,
        importance_xyz: torch.Tensor,
        threads: int,
        *,
        axis: int = 0,
        length: int | None = None,
    ) -> None:
        self.box, self._axis = box, axis
        self._importance, self._threads = importance_xyz, threads
        shape = list(box.shape)
        self._length = shape[axis] = shape[axis] if length is None else length
        self._shape = (classes, *shape)
        self._sums: torch.Tensor | None = None
        self._largest: list[torch.Tensor] = []  # on CUDA, of each window

    @property
    def on_cuda(self) -> bool:
        """Whether the sums lie on a CUDA device."""
        return self._importance.is_cuda

    def sums(self) -> torch.Tensor:
        """Return the sums, shape CXYZ, on the device."""
        if self._sums is None:
            self._sums = _zeros(self._shape, self._importance.device)
        return self._sums

    def parts(self, box: Box) -> Iterator[tuple[Box, torch.Tensor]]:
        """Return views of the sums of a box of model voxels, in as many parts as it takes."""
        for part, place in self._places(box):
            yield part, self.sums()[(slice(None), *place.within(Box.whole(self._shape[1:])))]

    def add(self, scores_Cxyz: torch.Tensor, window: Box) -> None:
        """Add the scores of a window, where it lies inside the box.

        Raises
        ------
        CaseError
            ``scores_not_finite``; on CUDA only ``check`` raises it, so as not to wait here.
        """
        if self.on_cuda:
            self._largest.append(torch.stack(torch.aminmax(scores_Cxyz)).abs().amax())
            for part, sums_Cxyz in self.parts(window.intersect(self.box)):
                cut = part.within(window)
                add_in_groups(sums_Cxyz, scores_Cxyz[(slice(None), *cut)], self._importance[cut])
            return
        sums, scores, importance = (
            tensor.numpy() for tensor in (self.sums(), scores_Cxyz.cpu(), self._importance)
        )
        for part, place in self._places(window.intersect(self.box)):
            local = part.shifted(-v for v in window.start)
            offset = index3(b - a for a, b in zip(local.start, place.start, strict=True))
            if not add_window(sums, scores, importance, local, offset, self._threads):
                raise _not_finite()

    def clear(self, box: Box) -> None:
        """Set the sums of a box of model voxels to zero."""
        for _, sums_Cxyz in self.parts(box):
            sums_Cxyz.zero_()

    def check(self) -> None:
        """Raise ``scores_not_finite`` if any score was NaN, infinite or out of range."""
        if self._largest and not float(torch.stack(self._largest).amax()) < LARGEST_SCORE:
            raise _not_finite()

    def _places(self, box: Box) -> Iterator[tuple[Box, Box]]:
        """Cut a box where the places begin anew; yield its parts, and the place of each."""
        axis, begin = self._axis, self.box.start[self._axis]
        low = box.start[axis]
        while low < box.stop[axis]:
            turn = (low - begin) // self._length
            part = box.between(axis, low, begin + (turn + 1) * self._length)
            shift = [-v for v in self.box.start]
            shift[axis] -= turn * self._length
            yield part, part.shifted(shift)
            low = part.stop[axis]


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
    """Return zeros; on a CPU of the system's own, which PyTorch would write once more."""
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
