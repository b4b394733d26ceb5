"""Views: volumes that are read box by box, without ever being whole.

A view has a shape and reads any box of its voxels. Views stack: a resampled view of a reoriented
view of a file. What a voxel's value is never depends on the box that it was read with, to the bit:
that is why tiles cannot show in the result (P3). So interpolation takes its positions and weights
from the index of the voxel alone, and adds in one fixed order.

Arrays are float32 and named for their axes: C channels, X Y Z voxels along the view's three axes.
They lie in memory in any order, as they came from the file; ``materialised`` and
``read_with_margin`` put them in C order. They may share memory with the view: whoever changes them
makes a copy first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unet_pipeline.clock import check_time
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.grid import Orientation
from unet_pipeline.volume.layout import copy_into, in_order, mixed

Voxels = npt.NDArray[np.float32]
Spacing3 = tuple[float, float, float]

_CACHE_BYTES = 16_000_000
_MOST_BYTES = 128_000_000
_NEEDED_BYTES = 64_000_000  # of the inner view, at a time
_OVERLAP = 1.25  # voxels that thin slabs may touch, by those of the whole


class View(Protocol):
    """A volume of ``channels`` x ``shape`` voxels."""

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""

    @property
    def channels(self) -> int:
        """Number of channels."""

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box`` (which lies inside the view), shape CXYZ."""

    def needs(self, box: Box) -> Box:
        """Return the box of the innermost view that ``read(box)`` reads; empty if it needs none."""


@dataclass(frozen=True)
class ArrayView:
    """A view of an array in memory.

    Attributes
    ----------
    values_CXYZ
        Values of any type; they are read as float32.
    box
        The box that the array covers; boxes to read must lie within. By default it begins at 0.
    of_shape
        Shape of the whole volume, where the array is only a part of it.
    """

    values_CXYZ: npt.NDArray[Any]
    box: Box | None = None
    of_shape: Index3 | None = None

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.of_shape or Box.whole(self.values_CXYZ.shape[1:]).shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.values_CXYZ.shape[0])

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        part = box.within(self.box or Box.whole(self.values_CXYZ.shape[1:]))
        return np.asarray(self.values_CXYZ[(slice(None), *part)], dtype=np.float32)

    def needs(self, box: Box) -> Box:
        """Return ``box``."""
        return box


@dataclass(frozen=True)
class Reoriented:
    """A view with its axes reordered."""

    inner: View
    orientation: Orientation

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        x, y, z = (self.inner.shape[axis] for axis in self.orientation.source_axes)
        return x, y, z

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.inner.channels

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        values = self.inner.read(self._inner_box(box))
        values = values.transpose(0, *(axis + 1 for axis in self.orientation.source_axes))
        steps = (slice(None, None, -1 if flip else 1) for flip in self.orientation.flips)
        turned: Voxels = values[(slice(None), *steps)]
        return turned

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(self._inner_box(box))

    def _inner_box(self, box: Box) -> Box:
        start, stop = [0, 0, 0], [0, 0, 0]
        for new, old in enumerate(self.orientation.source_axes):
            a, b, n = box.start[new], box.stop[new], self.shape[new]
            start[old], stop[old] = (n - b, n - a) if self.orientation.flips[new] else (a, b)
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


@dataclass(frozen=True)
class Resampled:
    """A view with another spacing, linearly interpolated, or by the nearest voxel.

    Attributes
    ----------
    steps
        Distance of neighbouring voxels, in voxels of the inner view, along each axis.
    start
        Where voxel 0 lies, in voxels of the inner view. An axis of step 1 and start 0 is copied.
        Before the first inner voxel and beyond the last, its value is repeated.
    nearest
        Axes along which the nearest voxel is taken, the next one at ties.
    """

    inner: View
    steps: Spacing3
    shape: Index3
    start: Spacing3 = (0.0, 0.0, 0.0)
    nearest: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.inner.channels

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ.

        A few voxels may need many: of a coarse view, a window is read part by part.
        """
        found = _within_bytes(box, 4 * self.channels * self._inner_box(box).size)
        if len(found) == 1:
            return self._read(box)
        values = np.empty((self.channels, *box.shape), dtype=np.float32)
        for part in found:
            check_time()
            copy_into(values[(slice(None), *part.within(box))], self._read(part))
        return values

    def _read(self, box: Box) -> Voxels:
        inner_box = self._inner_box(box)
        values = self.inner.read(inner_box)
        for axis in range(3):
            if self._interpolates(axis) and values.size:
                low, high, share = self._neighbours(axis, box)
                origin = inner_box.start[axis]
                values = mixed(values, axis + 1, low - origin, high - origin, share)
        return values

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(self._inner_box(box))

    def _inner_box(self, box: Box) -> Box:
        start, stop = list(box.start), list(box.stop)
        for axis in range(3):
            if self._interpolates(axis) and box.size:
                ends = np.array([box.start[axis], box.stop[axis] - 1])  # both grow along the axis
                low, high, _ = self.neighbours(axis, ends)
                start[axis], stop[axis] = int(low[0]), int(high[-1]) + 1
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def _interpolates(self, axis: int) -> bool:
        return (self.steps[axis], self.start[axis]) != (1.0, 0.0)

    def neighbours(
        self, axis: int, index: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Voxels]:
        """Return the inner voxels below and above voxels of this view, and the latter's weight."""
        if not self._interpolates(axis):
            return index, index, np.zeros(len(index), np.float32)
        last = self.inner.shape[axis] - 1
        at = index * self.steps[axis] + self.start[axis]
        at = np.clip(np.floor(at + 0.5) if axis in self.nearest else at, 0, last)
        low = np.floor(at).astype(np.int64)
        return low, np.minimum(low + 1, last), (at - low).astype(np.float32)

    def _neighbours(
        self, axis: int, box: Box
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Voxels]:
        return self.neighbours(axis, np.arange(box.start[axis], box.stop[axis]))


@dataclass(frozen=True)
class CropPadded:
    """A view cropped, padded with ``fill``, or both.

    Attributes
    ----------
    start
        The inner voxel at which this view begins; negative where it is padded.
    """

    inner: View
    start: Index3
    shape: Index3
    fill: float = 0.0

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.inner.channels

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        wanted = box.shifted(self.start)
        inside = wanted.intersect(Box.whole(self.inner.shape))
        if inside == wanted:
            return self.inner.read(wanted)
        values = np.full((self.channels, *box.shape), self.fill, dtype=np.float32)
        if inside.size:
            copy_into(values[(slice(None), *inside.within(wanted))], self.inner.read(inside))
        return values

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        inside = box.shifted(self.start).intersect(Box.whole(self.inner.shape))
        return self.inner.needs(inside) if inside.size else inside


@dataclass(frozen=True)
class ValueMapped:
    """A view whose values are changed one by one.

    Attributes
    ----------
    change
        Maps voxels of shape CXYZ to voxels of the same shape, each from its own value alone.
    """

    inner: View
    change: Callable[[Voxels], Voxels]

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.inner.shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.inner.channels

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        return self.change(self.inner.read(box))

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(box)


@dataclass(frozen=True)
class ShapeOnly:
    """The innermost view of a chain that is asked for shapes and boxes, never for voxels."""

    shape: Index3
    channels: int = 1

    def read(self, box: Box) -> Voxels:
        """Refuse: there are no voxels."""
        raise TypeError(f"a view without voxels cannot read {box}")

    def needs(self, box: Box) -> Box:
        """Return ``box``."""
        return box


def read_with_margin(view: View, box: Box, fill: float = 0.0) -> Voxels:
    """Return the voxels of a ``box`` that may hang over the view's ends, shape CXYZ, in C order."""
    return in_order(CropPadded(view, (0, 0, 0), view.shape, fill).read(box))


def slabs(view: View, slab_bytes: int = 64_000_000) -> list[Box]:
    """Cut a view into boxes of about ``slab_bytes`` along its last axis, for one pass over it."""
    return parts(Box.whole(view.shape), 2, slab_bytes // view.channels)


def parts(box: Box, axis: int, part_bytes: int) -> list[Box]:
    """Cut a box along an axis into boxes of about ``part_bytes`` of one channel."""
    start, stop, length = list(box.start), list(box.stop), box.shape[axis]
    step = max(1, part_bytes * length // max(1, 4 * box.size))
    found = []
    for begin in range(box.start[axis], box.stop[axis], step):
        start[axis], stop[axis] = begin, min(begin + step, box.stop[axis])
        found.append(Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])))
    return found


def _within_bytes(box: Box, needed_bytes: int) -> list[Box]:
    """Cut a box along its longest axis so that no part needs many of the bytes that it needs."""
    if needed_bytes <= _NEEDED_BYTES:
        return [box]
    return parts(box, int(np.argmax(box.shape)), 4 * box.size * _NEEDED_BYTES // needed_bytes)


def materialised(view: View, kind: npt.DTypeLike = np.float32) -> ArrayView:
    """Read a whole view into memory, slab by slab; its values stay the same, bit for bit.

    Parameters
    ----------
    kind
        A type that holds all of its values.
    """
    values_CXYZ = np.empty((view.channels, *view.shape), dtype=kind)
    for box in _thin_slabs(view):
        check_time()
        part = (slice(None), *box.within(Box.whole(view.shape)))
        copy_into(values_CXYZ[part], view.read(box).astype(kind, copy=False))
    return ArrayView(values_CXYZ)


def _thin_slabs(view: View) -> list[Box]:
    """Cut a view so that what a slab is made of stays in the caches on its way.

    Where thin slabs would share much of what they need, as those of splines do, they are thicker.
    """
    whole = Box.whole(view.shape)
    larger = max(1, view.needs(whole).size // whole.size)
    thin = slabs(view, _CACHE_BYTES // larger)
    touched = sum(view.needs(slab).size for slab in thin) + whole.size
    if touched <= _OVERLAP * (view.needs(whole).size + whole.size):
        return thin
    return slabs(view, _MOST_BYTES // larger)
