"""A sheared volume on a grid of right angles, and scores of it back on the sheared one.

The affine of a CT with a tilted gantry is sheared: its slices are stacked aslant. Networks learnt
from voxels at right angles, so they see the volume resampled: linearly, onto a grid that covers it,
as MONAI's ``Spacingd`` does. Scores come back by the same map the other way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import ndimage

from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.grid import Float, VoxelGrid, orientation_to
from unet_pipeline.volume.spacing_grid import shape_and_origin, with_spacing
from unet_pipeline.volume.views import View, Voxels

_PART_VOXELS = 1_000_000


class HandlesShear:
    """A step that brings a sheared grid to right angles itself: none need be put before it."""


@dataclass(frozen=True)
class AffineResampled:
    """A view whose axes run anywhere in another's, linearly interpolated.

    A voxel's position is computed from its index alone, so its value does not depend on the box
    it is read with. Beyond the inner view its outermost voxels hold.

    Attributes
    ----------
    rows
        The first three rows of the affine from this view's voxels to the inner view's.
    order
        0 for the nearest voxel.
    """

    inner: View
    rows: tuple[tuple[float, ...], ...]
    shape: Index3
    order: int = 1

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.inner.channels

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        found = np.empty((self.channels, *box.shape), np.float32)
        if not box.size:
            return found
        step = max(1, _PART_VOXELS // (box.shape[1] * box.shape[2]))
        for x in range(box.start[0], box.stop[0], step):
            end = min(x + step, box.stop[0])
            part = Box((x, *box.start[1:]), (end, *box.stop[1:]))
            self._read(part, found[:, x - box.start[0] : end - box.start[0]])
        return found

    def _read(self, box: Box, found_CXYZ: Voxels) -> None:
        inner_box = self._inner_box(box)
        values = self.inner.read(inner_box)
        at_3XYZ = self._positions(box)
        for axis, (size, start) in enumerate(zip(self.inner.shape, inner_box.start, strict=True)):
            np.clip(at_3XYZ[axis], 0, size - 1, out=at_3XYZ[axis])
            at_3XYZ[axis] -= start
        for channel, target in zip(values, found_CXYZ, strict=True):
            ndimage.map_coordinates(
                channel, at_3XYZ, order=self.order, mode="nearest", output=target
            )

    def _positions(self, box: Box) -> Float:
        x, y, z = (np.arange(a, b, dtype=float) for a, b in zip(box.start, box.stop, strict=True))
        at_3XYZ = np.empty((3, *box.shape))
        for axis, (i, j, k, first) in enumerate(self.rows):
            at_3XYZ[axis] = (
                (i * x)[:, None, None] + (j * y)[None, :, None] + (k * z + first)[None, None, :]
            )
        return at_3XYZ

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(self._inner_box(box))

    def _inner_box(self, box: Box) -> Box:
        if not box.size:
            return Box((0, 0, 0), (0, 0, 0))
        ends = [(a, b - 1) for a, b in zip(box.start, box.stop, strict=True)]
        corners = np.array([*product(*ends)], dtype=float)
        matrix = np.array(self.rows)
        at = corners @ matrix[:, :3].T + matrix[:, 3]
        last = np.array(self.inner.shape) - 1
        low = np.clip(np.floor(at.min(axis=0)) - 1, 0, last).astype(int).tolist()
        high = np.clip(np.ceil(at.max(axis=0)) + 1, 0, last).astype(int).tolist()
        return Box((low[0], low[1], low[2]), (high[0] + 1, high[1] + 1, high[2] + 1))


@dataclass(frozen=True)
class ResampleToGrid:
    """A step onto another grid of the same world, resolved."""

    source: VoxelGrid
    target: VoxelGrid

    def apply(self, view: View) -> View:
        """Return the view after this step."""
        return _on(view, self.source, self.target)

    def apply_to_labels(self, labels: View) -> View:
        """Return a label map after this step: each voxel has the label of the nearest."""
        return replace(_on(labels, self.source, self.target), order=0)

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid that the step was applied to."""
        return _on(scores, self.target, self.source)

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step."""
        return self.target


def deskewed(grid: VoxelGrid) -> ResampleToGrid:
    """Return the step onto a grid at right angles that keeps slices slices.

    The first axis stays, in the order right, front, head of the patient; the others are turned
    away from those before. Distances are those between lines and between slices, measured at right
    angles, so that the voxels of an aslant stack of slices keep their size.
    """
    order = orientation_to(grid, "RAS")
    upright = order.apply(grid)
    directions = upright.affine[:3, :3]
    distances_mm = np.diag(np.linalg.cholesky(directions.T @ directions))
    return ResampleToGrid(grid, order.inverse.apply(right_angled(upright, distances_mm.tolist())))


def right_angled(grid: VoxelGrid, spacing_mm: Sequence[float]) -> VoxelGrid:
    """Return the grid at right angles that MONAI's ``Spacingd`` resamples a sheared one to."""
    affine = with_spacing(grid.affine, spacing_mm)
    shape, origin_mm = shape_and_origin(grid.shape, grid.affine, affine)
    affine[:3, 3] = origin_mm
    return VoxelGrid.of(shape, affine)


def _on(view: View, source: VoxelGrid, target: VoxelGrid) -> AffineResampled:
    matrix = np.linalg.solve(source.affine, target.affine)
    return AffineResampled(view, tuple(tuple(map(float, row)) for row in matrix[:3]), target.shape)
