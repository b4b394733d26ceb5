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
from unet_pipeline.volume.views import Framed, Reoriented, Resampled, ShapeOnly, View

Indices = npt.NDArray[np.int64]
NOTHING = -1  # the index of a voxel that is not there, whose value is 0


@dataclass(frozen=True)
class Taps:
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

    def __getitem__(self, part: slice) -> "Taps":
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

    def moved(self, change: Callable[[Indices], Indices], axis: int | None = None) -> "Taps":
        """Return the taps of a view further in, whose voxels have other indices."""
        below, above = (
            np.where(index == NOTHING, NOTHING, change(index)) for index in (self.below, self.above)
        )
        inner_axis = self.inner_axis if axis is None else axis
        return replace(self, inner_axis=inner_axis, below=below, above=above)


def taps_of(view: View, box: Box) -> tuple[Taps, Taps, Taps] | None:
    """Return the taps of the voxels of ``box``, in the order in which axes are interpolated.

    The chain of views must end with ``ShapeOnly``. None for a chain that interpolates twice, pads
    with other values than 0 or does anything else to them: such views must be read.
    """
    taps, interpolated = _identity(box), False
    while not isinstance(view, ShapeOnly):
        if isinstance(view, Reoriented):
            taps = [_reoriented(view, tap) for tap in taps]
        elif isinstance(view, Framed) and view.fill == 0:
            taps = [_framed(view, tap) for tap in taps]
        elif isinstance(view, Resampled) and not interpolated:
            interpolated = True
            taps = sorted((_resampled(view, tap) for tap in taps), key=lambda tap: tap.inner_axis)
        else:
            return None
        view = view.inner
    return taps[0], taps[1], taps[2]


def _identity(box: Box) -> list[Taps]:
    indices = [np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)]
    return [
        Taps(axis, axis, index, index, np.zeros(len(index), np.float32))
        for axis, index in enumerate(indices)
    ]


def _reoriented(view: Reoriented, tap: Taps) -> Taps:
    last = view.shape[tap.inner_axis] - 1
    flip = view.orientation.flips[tap.inner_axis]
    axis = view.orientation.source_axes[tap.inner_axis]
    return tap.moved(lambda index: last - index if flip else index, axis)


def _framed(view: Framed, tap: Taps) -> Taps:
    start, size = view.start[tap.inner_axis], view.inner.shape[tap.inner_axis]

    def change(index: Indices) -> Indices:
        inner = index + start
        return np.where((inner >= 0) & (inner < size), inner, NOTHING)

    return tap.moved(change)


def _resampled(view: Resampled, tap: Taps) -> Taps:
    below, above, share = view.neighbours(tap.inner_axis, tap.below)
    there = tap.below != NOTHING
    return replace(
        tap,
        below=np.where(there, below, NOTHING),
        above=np.where(there, above, NOTHING),
        share=np.where(there, share, np.float32(0)),
    )
