"""A case as an inspection sees it: a block of windows of the model grid, with its labels.

All numbers of a case are taken on the voxels of one block of neighbouring windows, laid where the
product lays them. A small volume is such a block as a whole; of a large one it is the block with
most foreground, so that memory and time do not grow with the volume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.tasks import stage_case
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.windows import window_starts
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.kept import opened
from unet_pipeline.volume.labels import model_labels
from unet_pipeline.volume.views import View, Voxels, read_with_margin
from unet_pipeline.volume_job import VolumeJob

OUTSIDE = -1  # the label of voxels of a window that lie outside the volume


@dataclass(frozen=True)
class CaseBlock:
    """The part of a case that is looked at.

    Attributes
    ----------
    grid
        The model grid.
    windows
        First model voxel of each window.
    box
        The model voxels that the windows cover; may hang over the volume.
    values_CXYZ
        What the network sees of the box.
    labels_XYZ
        Labels of the mask on the box, int16; ``OUTSIDE`` where there is no volume.
    """

    name: str
    grid: VoxelGrid
    windows: tuple[Index3, ...]
    roi_size: Index3
    box: Box
    values_CXYZ: Voxels
    labels_XYZ: NDArray[np.int16]

    def boxes(self) -> Iterator[tuple[slice, slice, slice]]:
        """Yield where each window lies in the box."""
        for start in self.windows:
            yield Box.at(start, self.roi_size).within(self.box)


def load_block(job: VolumeJob, most_windows: int) -> CaseBlock:
    """Read a case with a mask as ``segment`` does, and cut out the block of windows to look at.

    Raises
    ------
    CaseError
        As ``stage_case`` and ``model_labels``.
    """
    staged = stage_case(job)
    prepared, model = staged.volume.prepared, staged.volume.model
    assert staged.mask is not None  # noqa: S101  the case has a mask
    labels_XYZ = model_labels(opened(staged.mask, job.room), prepared)
    return cut_block(
        job.case,
        model,
        prepared.model,
        labels_XYZ,
        roi_size=job.spec.roi_size,
        overlap=job.overlap,
        most_windows=most_windows,
    )


def cut_block(
    name: str,
    model: View,
    grid: VoxelGrid,
    labels_XYZ: NDArray[np.int16],
    *,
    roi_size: Index3,
    overlap: float,
    most_windows: int,
) -> CaseBlock:
    """Cut the block of windows with most foreground out of a volume on the model grid."""
    windows = foreground_windows(labels_XYZ, roi_size, overlap, most_windows)
    box = Box.at(windows[0], roi_size).union(Box.at(windows[-1], roi_size))
    block_XYZ = np.full(box.shape, OUTSIDE, np.int16)
    whole = Box.whole(labels_XYZ.shape)
    inside = box.intersect(whole)
    block_XYZ[inside.within(box)] = labels_XYZ[inside.within(whole)]
    values_CXYZ = read_with_margin(model, box)
    return CaseBlock(name, grid, windows, roi_size, box, values_CXYZ, block_XYZ)


def foreground_windows(
    labels_XYZ: NDArray[np.int16], roi_size: Index3, overlap: float, most: int
) -> tuple[Index3, ...]:
    """Return the windows of a block of at most ``most``: all, or those with most foreground.

    The block is widened window by window along the axis of which it has the smallest share, and
    then laid axis by axis where it holds most voxels of foreground.
    """
    axes = [window_starts(n, r, overlap) for n, r in zip(labels_XYZ.shape, roi_size, strict=True)]
    counts = _block_shape([len(starts) for starts in axes], most)
    chosen = []
    part = labels_XYZ > 0
    for axis, (starts, count) in enumerate(zip(axes, counts, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        run = _fullest(part.sum(axis=others), starts, roi_size[axis], count)
        chosen.append(run)
        kept = slice(max(run[0], 0), run[-1] + roi_size[axis])
        part = part[tuple(kept if a == axis else slice(None) for a in range(3))]
    return tuple((x, y, z) for x, y, z in product(*chosen))


def _block_shape(available: Sequence[int], most: int) -> list[int]:
    counts = [1, 1, 1]
    while True:
        wider = [
            axis
            for axis in range(3)
            if counts[axis] < available[axis]
            and prod(counts) // counts[axis] * (counts[axis] + 1) <= most
        ]
        if not wider:
            return counts
        counts[min(wider, key=lambda axis: counts[axis] / available[axis])] += 1


def _fullest(
    foreground: NDArray[np.int64], starts: Sequence[int], roi: int, count: int
) -> Sequence[int]:
    """Return the run of ``count`` windows with most foreground; of equal ones the middle one."""
    runs = [starts[first : first + count] for first in range(len(starts) - count + 1)]
    held = np.array([foreground[max(run[0], 0) : run[-1] + roi].sum() for run in runs])
    (best,) = np.nonzero(held == held.max())
    return runs[int(best[len(best) // 2])]
