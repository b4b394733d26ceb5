"""In which order the windows of a tile are evaluated, so that few of its sums are alive at once.

Windows go along one axis of the model grid. What lies behind them is complete: its labels are
decided, and its sums let go of, before the next windows come::

    model axis      0 . . . . . . . . . . . 171
    slab 1          [-- windows --]               then complete: below the start of slab 2
    slab 2               [-- windows --]          below the start of slab 3
    slab 3                    [-- windows --]     all
    alive            at most as much as a window, and what labels between two slabs need

This holds for a tile that hands no sums to others and needs none of them.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, permutations, zip_longest
from math import ceil, prod

import numpy as np

from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.tiling.windows import Lattice

Needs = Callable[[Box], Box]


@dataclass(frozen=True)
class WindowSlab:
    """Windows that begin at one voxel of the axis, side by side, and what is complete after them.

    Attributes
    ----------
    write_box
        Native voxels whose labels can be decided now; perhaps none.
    score_box
        Model voxels that decide them.
    released
        Model voxels along the axis, first and the one after the last, whose sums nobody needs
        from now on.
    """

    windows: Lattice
    write_box: Box
    score_box: Box
    released: tuple[int, int]


@dataclass(frozen=True)
class WindowOrder:
    """The order of a tile's windows.

    Attributes
    ----------
    box
        Model voxels whose sums are needed at all: windows may hang over their ends.
    axis
        Of the model grid, that the windows go along.
    length
        Model voxels along the axis whose sums are alive at most.
    slabs
        Their write boxes partition that of the tile.
    """

    box: Box
    axis: int
    length: int
    slabs: tuple[WindowSlab, ...]

    @property
    def alive(self) -> Index3:
        """Shape of the sums that are alive at most."""
        shape = list(self.box.shape)
        shape[self.axis] = self.length
        return index3(shape)

    @property
    def windows(self) -> Iterator[Index3]:
        """First model voxel of each window, in order."""
        return chain.from_iterable(slab.windows for slab in self.slabs)


def order_of(write_box: Box, windows: Lattice, roi_size: Index3, needs: Needs) -> WindowOrder:
    """Return the order that keeps the fewest sums alive.

    Parameters
    ----------
    write_box
        Native voxels of the tile.
    windows
        Those of the tile; they cover what the write box needs.
    needs
        Maps a box of native voxels to the box of model voxels that decide its labels. The larger
        the one, the larger the other.
    """
    orders = [_along(axis, write_box, windows, roi_size, needs) for axis in range(3)]
    return min(orders, key=lambda order: prod(order.alive))


def native_axis_of(model_axis: int, box: Box, needs: Needs) -> int:
    """Return the native axis that runs along ``model_axis`` (they may be permuted)."""
    whole = needs(box).shape[model_axis]
    halves = [_split(box, axis, ceil(box.shape[axis] / 2))[0] for axis in range(3)]
    return int(np.argmax([whole - needs(half).shape[model_axis] for half in halves]))


def native_axes_of(box: Box, needs: Needs) -> Index3:
    """Return for each model axis the native axis that runs along it, as a permutation.

    Where axes are oblique, those that fit best.
    """
    whole = needs(box).shape
    halves = [needs(_split(box, axis, ceil(box.shape[axis] / 2))[0]).shape for axis in range(3)]

    def fit(order: Index3) -> float:
        """Return by how much of its length each model axis shrinks with half its native axis."""
        lengths = [
            (n, halves[axis][m]) for m, (axis, n) in enumerate(zip(order, whole, strict=True))
        ]
        return sum((n - half) / max(n, 1) for n, half in lengths)

    return max((index3(order) for order in permutations(range(3))), key=fit)


def _along(
    axis: int, write_box: Box, windows: Lattice, roi_size: Index3, needs: Needs
) -> WindowOrder:
    starts, box = windows.axes[axis], needs(write_box)
    slabs, length, rest, low = [], 0, write_box, box.start[axis]
    cut = _cutter(axis, write_box, needs) if len(starts) > 1 else None
    for start, following in zip_longest(starts, starts[1:]):
        stop = min(start + roi_size[axis], box.stop[axis])
        length = max(length, stop - low)
        done, kept = rest, stop
        if cut is not None and following is not None:
            done, rest = cut(rest, following)
            kept = max(low, min(following, _first_needed(rest, axis, needs, following)))
        slabs.append(
            WindowSlab(
                windows.at(axis, start), done, needs(done) if done.size else done, (low, kept)
            )
        )
        low = kept
    return WindowOrder(box, axis, length, tuple(slabs))


def _cutter(axis: int, write_box: Box, needs: Needs) -> Callable[[Box, int], tuple[Box, Box]]:
    """Return what cuts off the native voxels that need no model voxel from ``stop`` on.

    They are cut off at that end of the box which lies at the lower end of the model axis.
    """
    native = native_axis_of(axis, write_box, needs)
    near, far = _split(write_box, native, ceil(write_box.shape[native] / 2))
    backwards = bool(far.size) and needs(far).start[axis] < needs(near).start[axis]

    def cut(rest: Box, stop: int) -> tuple[Box, Box]:
        length = rest.shape[native]

        def parts(count: int) -> tuple[Box, Box]:
            if backwards:
                far, near = _split(rest, native, length - count)
                return near, far
            return _split(rest, native, count)

        def is_too_much(count: int) -> bool:
            needed = needs(parts(count)[0])
            return needed.size > 0 and needed.stop[axis] > stop

        return parts(bisect_left(range(1, length + 1), True, key=is_too_much))

    return cut


def _first_needed(rest: Box, axis: int, needs: Needs, default: int) -> int:
    """Return the first model voxel that ``rest`` needs; ``default`` if it needs none."""
    needed = needs(rest) if rest.size else rest
    return needed.start[axis] if needed.size else default


def _split(box: Box, axis: int, count: int) -> tuple[Box, Box]:
    """Return the first voxels of a box along an axis, and the others."""
    middle = box.start[axis] + count
    return box.between(axis, box.start[axis], middle), box.between(axis, middle, box.stop[axis])
