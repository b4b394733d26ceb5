"""Steps between a file's grid and the network's: resolved for a volume, applied, and taken back.

A transform of a bundle is a step for any volume. It is *resolved* once per volume: what it needs
of the whole volume (a mean, a percentile, a bounding box) is measured in one pass over the view
and becomes a plain number. A resolved step then puts a view on top of a view, and knows how to
take scores back: cropped scores are padded with 0, resampled ones are interpolated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.deskew import HandlesShear, deskewed
from unet_pipeline.volume.grid import Orientation, VoxelGrid
from unet_pipeline.volume.views import (
    CropPadded,
    Reoriented,
    Resampled,
    ShapeOnly,
    Spacing3,
    ValueMapped,
    View,
    Voxels,
)

MOST_ALONG = 2.0**40  # voxels of an axis; budgets of whole volumes are the gate's


class Resolved(Protocol):
    """A step for one volume, all of its numbers known."""

    def apply(self, view: View) -> View:
        """Return the view after this step."""

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid of ``shape`` voxels that the step was applied to."""

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step."""


class Step(Protocol):
    """A transform of the bundle, for any volume."""

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Measure what the step needs of a volume."""

    @property
    def needs_voxels(self) -> bool:
        """Whether the grid after the step depends on voxel values."""

    @property
    def measures(self) -> bool:
        """Whether resolving the step reads voxels."""


@dataclass(frozen=True)
class Prepared:
    """All steps of a bundle, resolved for one volume.

    Attributes
    ----------
    native, model
        The grid of the file and the grid that the network sees.
    """

    native: VoxelGrid
    model: VoxelGrid
    steps: tuple[Resolved, ...]

    @property
    def geometry(self) -> "Prepared":
        """What ``backward`` needs: all but the steps that only change values, and may be large."""
        moving = tuple(step for step in self.steps if not isinstance(step, Identity))
        return replace(self, steps=moving)

    def forward(self, view: View) -> View:
        """Return what the network sees of the file's ``view``."""
        for step in self.steps:
            view = step.apply(view)
        return view

    def backward(self, scores: View) -> View:
        """Return scores of the model grid as scores of the native grid."""
        shapes, grid = [], self.native
        for step in self.steps:
            shapes.append(grid.shape)
            grid = step.grid(grid)
        for step, shape in zip(reversed(self.steps), reversed(shapes), strict=True):
            scores = step.undo(scores, shape)
        return scores


def prepare(steps: Sequence[Step], view: View, grid: VoxelGrid) -> Prepared:
    """Resolve the steps of a bundle for one volume, measuring it where a step asks for it.

    A sheared volume is brought to right angles first, unless a step does so on its own way.
    """
    resolved: list[Resolved] = []
    native = grid
    if grid.is_sheared and not any(isinstance(step, HandlesShear) for step in steps):
        resolved.append(deskewed(grid))
        view, grid = after(view, resolved[0]), resolved[0].grid(grid)
    for step in steps:
        now = step.resolve(view, grid)
        view, grid = after(view, now), now.grid(grid)
        resolved.append(now)
    return Prepared(native, grid, tuple(resolved))


@runtime_checkable
class Follows(Protocol):
    """A view that knows by itself what it is after a step."""

    def after(self, step: Resolved) -> View:
        """Return the view after a step."""


def after(view: View, step: Resolved) -> View:
    """Return a view after a step."""
    return view.after(step) if isinstance(view, Follows) else step.apply(view)


@dataclass(frozen=True)
class Identity:
    """A step that moves no voxel, such as loading; subclasses change values and nothing else."""

    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Nothing to measure."""
        return self

    def apply(self, view: View) -> View:
        """Return the view after this step."""
        return view

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid that the step was applied to."""
        return scores

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step."""
        return grid


@dataclass(frozen=True)
class MapValues(Identity):
    """A change of each value, resolved."""

    change: Callable[[Voxels], Voxels]

    def apply(self, view: View) -> View:
        """Return the view after this step."""
        return ValueMapped(view, self.change)


@dataclass(frozen=True)
class Reorder:
    """Axes in another order, some of them reversed."""

    orientation: Orientation

    def apply(self, view: View) -> View:
        """Return the view after this step."""
        return Reoriented(view, self.orientation)

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid that the step was applied to."""
        return Reoriented(scores, self.orientation.inverse)

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step."""
        return self.orientation.apply(grid)


@dataclass(frozen=True)
class Resample:
    """Another spacing, linearly interpolated; numbers as in ``Resampled``."""

    steps: Spacing3
    start: Spacing3
    shape: Index3

    def apply(self, view: View) -> View:
        """Return the view after this step."""
        return Resampled(view, self.steps, self.shape, self.start)

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid that the step was applied to."""
        x, y, z = (1.0 / step for step in self.steps)
        i, j, k = (-a / step for a, step in zip(self.start, self.steps, strict=True))
        return Resampled(scores, (x, y, z), shape, (i, j, k))

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step."""
        affine = grid.affine @ np.diag([*self.steps, 1.0])
        affine[:3, 3] = grid.voxel_to_world_mm(self.start)
        return VoxelGrid.of(self.shape, affine)


@dataclass(frozen=True)
class CropPad:
    """A crop, a margin of 0, or both; ``start`` as in ``CropPadded``."""

    start: Index3
    shape: Index3

    def apply(self, view: View) -> View:
        """Return the view after this step."""
        return CropPadded(view, self.start, self.shape)

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid that the step was applied to."""
        x, y, z = (-a for a in self.start)
        return CropPadded(scores, (x, y, z), shape)

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step."""
        affine = grid.affine.copy()
        affine[:3, 3] = grid.voxel_to_world_mm(self.start)
        return VoxelGrid.of(self.shape, affine)


def check_lengths(shape: Index3, have_mm: Sequence[float], want_mm: Sequence[float]) -> None:
    """Refuse a change of spacing after which an axis has more voxels than can be counted.

    Raises
    ------
    CaseError
        ``volume_too_large``.
    """
    for n, have, want in zip(shape, have_mm, want_mm, strict=True):
        if not n * (have / want) <= MOST_ALONG:
            raise CaseError(
                "volume_too_large",
                found=f"an axis of {n:,} voxels of {have:.3g} mm, at {want:.3g} mm for the network",
                wanted=f"at most {MOST_ALONG:.0e} voxels along an axis",
                remedy="Look whether the spacing in the header, and that of the bundle, is right",
            )


def covered_box(prepared: Prepared, write_box: Box) -> Box:
    """Return the model voxels whose scores decide the labels of a box of native voxels."""
    return prepared.backward(ShapeOnly(prepared.model.shape)).needs(write_box)
