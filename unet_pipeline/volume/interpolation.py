"""A chain of views in numbers: between which voxels each voxel lies, along each axis.

Reordering, cropping, padding with 0 and interpolating linearly do not mix axes. So a chain of them
is three lists of neighbours and weights, however long it is, and a compiled loop can follow it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.views import CropPadded, Reoriented, Resampled, ShapeOnly, View

Indices = npt.NDArray[np.int64]
NOTHING = -1  # the index of a voxel that is not there, whose value is 0


@dataclass(frozen=True)
class AxisInterpolation:
    """Between which voxels of the innermost view those of a box lie, along one axis.

    Attributes
    ----------
    outer_axis, inner_axis
        The axis, as an axis of the outermost view and of the innermost.
    below, above
        Index of the inner voxel before and after each outer voxel; ``NOTHING`` for a value of 0.
    share
        Weight of ``above``; the rest is that of ``below``.
    """

    outer_axis: int
    inner_axis: int
    below: Indices
    above: Indices
    share: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, part: slice) -> "AxisInterpolation":
        return replace(self, below=self.below[part], above=self.above[part], share=self.share[part])

    @cached_property
    def start(self) -> int:
        """The first inner voxel that is needed; 0 if none is."""
        needed = self._indices[self._indices != NOTHING]
        return int(needed.min()) if needed.size else 0

    @cached_property
    def stop(self) -> int:
        """The inner voxel after the last that is needed; 0 if none is."""
        return int(self._indices.max(initial=NOTHING)) + 1

    @property
    def length(self) -> int:
        """Voxels that are needed, and one of value 0 at their end if that is."""
        return self.stop - self.start + bool((self._indices == NOTHING).any())

    def local(self) -> tuple[Indices, npt.NDArray[np.float32]]:
        """Return ``below`` and ``above``, counted from ``start``, and their weights; each 2 x N."""
        last = self.stop - self.start
        indices = np.where(self._indices == NOTHING, last, self._indices - self.start)
        return indices, np.stack([1 - self.share, self.share])

    @cached_property
    def _indices(self) -> Indices:
        return np.stack([self.below, self.above])

    def moved(
        self, change: Callable[[Indices], Indices], axis: int | None = None
    ) -> "AxisInterpolation":
        """Return the interpolation from a view further in, whose voxels have other indices."""
        below, above = (
            np.where(index == NOTHING, NOTHING, change(index)) for index in (self.below, self.above)
        )
        inner_axis = self.inner_axis if axis is None else axis
        return replace(self, inner_axis=inner_axis, below=below, above=above)


Interpolation = tuple[AxisInterpolation, AxisInterpolation, AxisInterpolation]


def interpolation_of(view: View, box: Box) -> Interpolation | None:
    """Return the interpolation of the voxels of ``box``, in the order in which axes are taken.

    The chain of views must end with ``ShapeOnly``. None for a chain that interpolates twice, pads
    with other values than 0 or does anything else to them: such views must be read.
    """
    interps, interpolated = _identity(box), False
    while not isinstance(view, ShapeOnly):
        if isinstance(view, Reoriented):
            interps = [_reoriented(view, interp) for interp in interps]
        elif isinstance(view, CropPadded) and view.fill == 0:
            interps = [_crop_padded(view, interp) for interp in interps]
        elif isinstance(view, Resampled) and not interpolated:
            interpolated = True
            interps = [_resampled(view, interp) for interp in interps]
            interps.sort(key=lambda interp: interp.inner_axis)
        else:
            return None
        view = view.inner
    return interps[0], interps[1], interps[2]


def _identity(box: Box) -> list[AxisInterpolation]:
    indices = [np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)]
    return [
        AxisInterpolation(axis, axis, index, index, np.zeros(len(index), np.float32))
        for axis, index in enumerate(indices)
    ]


def _reoriented(view: Reoriented, interp: AxisInterpolation) -> AxisInterpolation:
    last = view.shape[interp.inner_axis] - 1
    flip = view.orientation.flips[interp.inner_axis]
    axis = view.orientation.source_axes[interp.inner_axis]
    return interp.moved(lambda index: last - index if flip else index, axis)


def _crop_padded(view: CropPadded, interp: AxisInterpolation) -> AxisInterpolation:
    start, size = view.start[interp.inner_axis], view.inner.shape[interp.inner_axis]

    def change(index: Indices) -> Indices:
        inner = index + start
        return np.where((inner >= 0) & (inner < size), inner, NOTHING)

    return interp.moved(change)


def _resampled(view: Resampled, interp: AxisInterpolation) -> AxisInterpolation:
    below, above, share = view.neighbours(interp.inner_axis, interp.below)
    there = interp.below != NOTHING
    return replace(
        interp,
        below=np.where(there, below, NOTHING),
        above=np.where(there, above, NOTHING),
        share=np.where(there, share, np.float32(0)),
    )
