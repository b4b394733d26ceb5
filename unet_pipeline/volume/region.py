"""A part of a volume that another model's label map names: its box, and the crop to it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box, index3
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.steps import CropPad, Resolved
from unet_pipeline.volume.views import View

_SLAB = 32  # planes that are looked at together


@dataclass(frozen=True)
class Region:
    """Labels of a first model, and how far around them a further one looks.

    Attributes
    ----------
    labels
        Their numbers.
    margin_mm
        Along each axis of the file.
    label_map
        URL of the first model's label map of the case; empty as long as no case is named.
    """

    labels: tuple[int, ...]
    margin_mm: float
    label_map: str = ""


@dataclass(frozen=True)
class CropTo:
    """A step that leaves the box of a region; it is known before the network's own steps."""

    box: Box
    file: VoxelGrid

    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Return the crop; of a sheared file, which is at right angles by now, to what holds it."""
        box = self.box if grid == self.file else self._seen_on(grid)
        return CropPad(box.start, box.shape)

    def _seen_on(self, grid: VoxelGrid) -> Box:
        corners = list(
            product(*((a, b - 1) for a, b in zip(self.box.start, self.box.stop, strict=True)))
        )
        world_mm = self.file.voxel_to_world_mm(corners)
        inverse = np.linalg.inv(grid.affine)
        there = world_mm @ inverse[:3, :3].T + inverse[:3, 3]
        start, stop = np.floor(there.min(axis=0)), np.ceil(there.max(axis=0)) + 1
        return Box(index3(start), index3(stop)).intersect(Box.whole(grid.shape))


def box_of_labels(
    labels_XYZ: npt.NDArray[np.integer], labels: Collection[int], margin: Sequence[int]
) -> Box | None:
    """Return the smallest box that holds some labels, and a margin within the volume.

    Parameters
    ----------
    margin
        Voxels along each axis.

    Returns
    -------
    Box or None
        None if no voxel has one of the labels.

    Examples
    --------
    >>> labels_XYZ = np.zeros((9, 9, 9), np.uint8)
    >>> labels_XYZ[4, 2:4, 8] = 3
    >>> box_of_labels(labels_XYZ, {3}, (1, 0, 2))
    Box(start=(3, 2, 6), stop=(6, 4, 9))
    """
    found: Box | None = None
    wanted = np.zeros(max(*labels, int(labels_XYZ.max(initial=0))) + 1, bool)
    wanted[list(labels)] = True
    for first in range(0, labels_XYZ.shape[2], _SLAB):
        hit = wanted[labels_XYZ[:, :, first : first + _SLAB]]
        if not hit.any():
            continue
        sides = [np.flatnonzero(hit.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        low, high = [int(s[0]) for s in sides], [int(s[-1]) + 1 for s in sides]
        part = Box(index3(low), index3(high)).shifted((0, 0, first))
        found = part if found is None else found.union(part)
    if found is None:
        return None
    start = index3(a - m for a, m in zip(found.start, margin, strict=True))
    stop = index3(b + m for b, m in zip(found.stop, margin, strict=True))
    return Box(start, stop).intersect(Box.whole(labels_XYZ.shape))
