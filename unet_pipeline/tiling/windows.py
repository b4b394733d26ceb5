"""Where windows lie along an axis: where MONAI or nnU-Net would place them."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Literal

import numpy as np

from unet_pipeline.tiling.box import Box, Index3, index3

Placement = Literal["packed", "evenly"]
Starts = tuple[int, ...]  # of windows along one axis, growing


@dataclass(frozen=True)
class Lattice:
    """Windows that begin at every combination of starts along three axes, in raster order.

    Only the axes are kept: a million windows take as much memory as a hundred along each axis.

    >>> list(Lattice(((0, 4), (0,), (-1, 2))))
    [(0, 0, -1), (0, 0, 2), (4, 0, -1), (4, 0, 2)]
    """

    axes: tuple[Starts, Starts, Starts]

    def __len__(self) -> int:
        """Return the number of windows."""
        return prod(map(len, self.axes))

    def __iter__(self) -> Iterator[Index3]:
        """Go through the first voxels of the windows."""
        return product(*self.axes)

    def __getitem__(self, index: int) -> Index3:
        """Return the first voxel of one window."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        rest, z = divmod(index, len(self.axes[2]))
        x, y = divmod(rest, len(self.axes[1]))
        return self.axes[0][x], self.axes[1][y], self.axes[2][z]

    def at(self, axis: int, start: int) -> "Lattice":
        """Return the windows that begin at one voxel of an axis."""
        return self._with(axis, (start,))

    def reaching(self, box: Box, roi_size: Index3) -> "Lattice":
        """Return the windows that have voxels of a box."""
        found = self
        for axis, (low, high) in enumerate(zip(box.start, box.stop, strict=True)):
            starts = self.axes[axis] if low < high else ()
            first = bisect_left(starts, low - roi_size[axis] + 1)
            found = found._with(axis, starts[first : bisect_left(starts, high)])
        return found

    def cover(self, roi_size: Index3) -> Box:
        """Return the smallest box that holds all windows; there must be one."""
        first, last = ([starts[end] for starts in self.axes] for end in (0, -1))
        return Box(index3(first), index3(a + n for a, n in zip(last, roi_size, strict=True)))

    def _with(self, axis: int, starts: Starts) -> "Lattice":
        axes = [*self.axes]
        axes[axis] = starts
        return Lattice((axes[0], axes[1], axes[2]))


def lattice(
    shape: Sequence[int],
    roi_size: Sequence[int],
    overlap: float,
    placement: Placement = "packed",
) -> Lattice:
    """Return all windows of a model grid."""
    x, y, z = (
        window_starts(n, roi, overlap, placement) for n, roi in zip(shape, roi_size, strict=True)
    )
    return Lattice((x, y, z))


def window_starts(length: int, roi: int, overlap: float, placement: Placement = "packed") -> Starts:
    """Return the first voxel of each window along one axis.

    A volume shorter than the window is padded on both sides, so its one window starts before
    voxel 0. Windows ``packed``, as MONAI places them, have one distance, and the last one is moved
    back to end with the volume. Windows placed ``evenly``, as nnU-Net does, move closer together
    until the last one ends with the volume.

    >>> window_starts(10, 4, 0.5)
    (0, 2, 4, 6)
    >>> window_starts(9, 4, 0.5)
    (0, 2, 4, 5)
    >>> window_starts(9, 4, 0.5, "evenly")
    (0, 2, 3, 5)
    >>> window_starts(3, 6, 0.5)
    (-1,)
    """
    count, start_of = _line(length, roi, overlap, placement)
    return tuple(start_of(i) for i in range(count))


def count_windows(
    shape: Iterable[int],
    roi_size: Iterable[int],
    overlap: float,
    placement: Placement = "packed",
    *,
    within: Box,
) -> int:
    """Return how many windows a plan has, in closed form: no window is laid out.

    Parameters
    ----------
    shape
        Voxels of the model grid.
    within
        Model voxels whose scores decide any label; windows that do not reach into them are left
        out.

    Returns
    -------
    int
        The number of windows of a plan of one tile, and of several tiles where no window fits
        between the model voxels that two of them need; at most so many otherwise.

    >>> count_windows((10, 9, 3), (4, 4, 6), 0.5, within=Box.whole((10, 9, 3)))
    16
    """
    return prod(
        _count_along(n, roi, overlap, placement, low, high)
        for n, roi, low, high in zip(shape, roi_size, within.start, within.stop, strict=True)
    )


def _count_along(
    length: int, roi: int, overlap: float, placement: Placement, low: int, high: int
) -> int:
    """Return how many windows along an axis reach into ``low <= voxel < high``."""
    if low >= high:
        return 0
    count, start_of = _line(length, roi, overlap, placement)
    every = range(count)
    first = bisect_left(every, True, key=lambda i: start_of(i) + roi > low)
    return bisect_left(every, True, key=lambda i: start_of(i) >= high) - first


def in_volume(stride: Sequence[int]) -> Index3:
    """Return a network's stride along the axes of a volume; 0 along the slices of a 2-D network."""
    return index3([*stride, 0]) if len(stride) == 2 else index3(stride)


def whole_window(shape: Sequence[int], stride: Sequence[int]) -> Index3:
    """Return the one window of a volume: as large as it, in multiples of the network's stride.

    A single multiple along all axes is made two along the first: at the deepest level there would
    be one voxel, which norms do not bear. Along an axis of stride 0 a window is one slice.

    >>> whole_window((30, 17, 16), (16, 16, 16))
    (32, 32, 16)
    >>> whole_window((5, 6, 7), (8, 8, 0))
    (16, 8, 1)
    """
    sizes = [
        1 if step == 0 else ceil(n / step) * step for n, step in zip(shape, stride, strict=True)
    ]
    if sizes == [step or 1 for step in stride]:
        sizes[0] *= 2
    return index3(sizes)


def _line(
    length: int, roi: int, overlap: float, placement: Placement
) -> tuple[int, Callable[[int], int]]:
    """Return how many windows lie along an axis, and where each begins."""
    if length <= roi:
        return 1, lambda _: -((roi - length) // 2)
    if placement == "evenly" and roi > 1:
        count = ceil((length - roi) / (roi * (1 - overlap))) + 1
        return count, lambda i: int(np.round((length - roi) / (count - 1) * i))
    interval = max(int(roi * (1 - overlap)), 1)
    return ceil((length - roi) / interval) + 1, lambda i: min(i * interval, length - roi)
