"""Numbers about a whole volume, from one or two passes over it in slabs.

The slabs depend on the volume's shape alone, and what is found in them is put together in their
order: so a result depends neither on tiles nor on workers, though several of them may look.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.layout import in_order
from unet_pipeline.volume.views import View, Voxels, parts, slabs

Mask = npt.NDArray[np.bool_]
Look = Callable[[Voxels, Box], Any]  # what is found in a box; it can be pickled
_SIGN = np.uint32(1 << 31)
_PLANES_BYTES = 16_000_000


@runtime_checkable
class Spread(Protocol):
    """A view whose voxels lie elsewhere: they are looked at there."""

    def each(self, boxes: Sequence[Box], look: Look) -> Iterable[Any]:
        """Return what is found in each box, in their order."""


def each(view: View, boxes: Sequence[Box], look: Look) -> Iterable[Any]:
    """Return what is found in each box of a view, in their order."""
    if isinstance(view, Spread):
        return view.each(boxes, look)
    return (look(view.read(box), box) for box in boxes)


def mean_and_deviation(
    view: View,
    nonzero: bool,
    channels: Sequence[int] | None = None,
    mask_XYZ: Mask | None = None,
) -> tuple[float, float]:
    """Return mean and population standard deviation, summed in float64 in two passes.

    Parameters
    ----------
    nonzero
        Whether voxels of value 0 are left out.
    channels
        Channels to measure together; all by default.
    mask_XYZ
        Where to measure; everywhere by default.

    Returns
    -------
    mean, deviation
        (0, 1) if there is no voxel to measure, which leaves the volume as it is.
    """
    choice = _Choice(nonzero, channels, mask_XYZ)
    boxes, total, count = slabs(view), 0.0, 0
    for part, voxels in each(view, boxes, _Sum(choice)):
        total, count = total + part, count + voxels
    if count == 0:
        return 0.0, 1.0
    mean, squares = total / count, 0.0
    for part in each(view, boxes, _Squares(choice, mean)):
        squares += part
    return mean, float(np.sqrt(squares / count))


def percentiles(
    view: View, wanted: Sequence[float], channels: Sequence[int] | None = None
) -> list[float]:
    """Return exact percentiles (0-100) with linear interpolation, in bounded memory.

    The bits of a float32 sort as its value does, after a small change. Two histograms find each
    order statistic exactly: one of the upper 16 bits, one of the lower 16 bits within the bin.
    """
    choice, boxes = _Choice(False, channels), slabs(view)
    upper = np.zeros(1 << 16, dtype=np.int64)
    for histogram in each(view, boxes, _Upper(choice)):
        upper += histogram
    count = int(upper.sum())
    ranks = [share / 100 * (count - 1) for share in wanted]
    needed = sorted({int(f(rank)) for rank in ranks for f in (np.floor, np.ceil)})
    bins = {rank: int(np.searchsorted(np.cumsum(upper), rank, side="right")) for rank in needed}
    lower = {chosen: np.zeros(1 << 16, dtype=np.int64) for chosen in bins.values()}
    for histograms in each(view, boxes, _Lower(choice, tuple(lower))):
        for chosen, histogram in zip(lower, histograms, strict=True):
            lower[chosen] += histogram
    before = np.concatenate([[0], np.cumsum(upper)])
    value_at = {
        rank: _value((chosen << 16) + int(np.searchsorted(
            np.cumsum(lower[chosen]), rank - before[chosen], side="right")))
        for rank, chosen in bins.items()
    }  # fmt: skip
    return [_between(value_at, rank) for rank in ranks]


def value_range(view: View, channel: int) -> tuple[float, float]:
    """Return the smallest and the largest value of a channel."""
    ranges = [*each(view, slabs(view), _Range(_Choice(False, [channel])))]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


@runtime_checkable
class HasBounds(Protocol):
    """A view that has a quicker way to its ``bounds``."""

    def bounds(self, axis: int | None) -> tuple[Voxels, Voxels]:
        """Return what ``measured_bounds`` of the view would."""


def bounds(view: View, axis: int | None = None) -> tuple[Voxels, Voxels]:
    """Return the smallest and the largest value of each channel, or of its slices along an axis.

    Returns
    -------
    low, high
        Shape C111, or with the number of slices along ``axis``.
    """
    return view.bounds(axis) if isinstance(view, HasBounds) else measured_bounds(view, axis)


def measured_bounds(view: View, axis: int | None = None) -> tuple[Voxels, Voxels]:
    """Return ``bounds``, from one pass over the values of the view itself."""
    kept = () if axis is None else (axis,)
    shape = [view.shape[a] if a in kept else 1 for a in range(3)]
    low = np.full((view.channels, *shape), np.inf, dtype=np.float32)
    high = -low
    boxes = _planes(view)
    found = each(view, boxes, _Bounds(tuple(a + 1 for a in range(3) if a not in kept)))
    for slab, (lowest, highest) in zip(boxes, found, strict=True):
        part = [slice(a, b) if i in kept else slice(None) for i, (a, b) in
                enumerate(zip(slab.start, slab.stop, strict=True))]  # fmt: skip
        here = (slice(None), *part)
        low[here] = np.minimum(low[here], lowest)
        high[here] = np.maximum(high[here], highest)
    return low, high


def foreground_box(view: View) -> Box | None:
    """Return the smallest box that holds every voxel above 0 in any channel, or None."""
    return _box_where(view, slabs(view), _is_above_zero)


def nonzero_box(view: View) -> Box | None:
    """Return the smallest box that holds every voxel that is not 0 in some channel, or None."""
    return _box_where(view, _planes(view), _is_not_zero)


def _planes(view: View) -> list[Box]:
    """Cut a view along its first axis, which is the last of a file in the views of nnU-Net."""
    return parts(Box.whole(view.shape), 0, _PLANES_BYTES // view.channels)


def _box_where(
    view: View, boxes: list[Box], test: Callable[[Voxels], npt.NDArray[np.bool_]]
) -> Box | None:
    found: Box | None = None
    for box in each(view, boxes, _BoxWhere(test)):
        if box is not None:
            found = box if found is None else found.union(box)
    return found


def _is_above_zero(values: Voxels) -> npt.NDArray[np.bool_]:
    return np.asarray(values > 0)


def _is_not_zero(values: Voxels) -> npt.NDArray[np.bool_]:
    return np.asarray(values != 0)


@dataclass(frozen=True)
class _BoxWhere:
    """Where a test holds in some channel: the smallest box; None for nowhere."""

    test: Callable[[Voxels], npt.NDArray[np.bool_]]

    def __call__(self, values: Voxels, slab: Box) -> Box | None:
        foreground_XYZ = np.asarray(self.test(values).any(axis=0))
        if not foreground_XYZ.any():
            return None
        others = ((1, 2), (0, 2), (0, 1))
        ranges = [np.flatnonzero(foreground_XYZ.any(axis=axes)) for axes in others]
        start = [int(r[0]) + offset for r, offset in zip(ranges, slab.start, strict=True)]
        return Box.at(start, [int(r[-1] - r[0]) + 1 for r in ranges])


@dataclass(frozen=True)
class _Bounds:
    """The smallest and the largest values over some axes."""

    axes: tuple[int, ...]

    def __call__(self, values: Voxels, _box: Box) -> tuple[Voxels, Voxels]:
        return values.min(axis=self.axes, keepdims=True), values.max(axis=self.axes, keepdims=True)


@dataclass(frozen=True)
class _Choice:
    """The values that are measured, in one order, however a file is stored."""

    nonzero: bool
    channels: Sequence[int] | None
    mask_XYZ: Mask | None = None

    def of(self, values: Voxels, box: Box) -> Voxels:
        """Return them of a box, one after the other."""
        values = in_order(values)
        chosen = values if self.channels is None else values[list(self.channels)]
        if self.mask_XYZ is not None:
            chosen = chosen[:, self.mask_XYZ[box.within(Box.whole(self.mask_XYZ.shape))]]
        return chosen[chosen != 0] if self.nonzero else chosen.ravel()


@dataclass(frozen=True)
class _Sum:
    choice: _Choice

    def __call__(self, values: Voxels, box: Box) -> tuple[float, int]:
        chosen = self.choice.of(values, box)
        return float(chosen.sum(dtype=np.float64)), chosen.size


@dataclass(frozen=True)
class _Squares:
    choice: _Choice
    mean: float

    def __call__(self, values: Voxels, box: Box) -> float:
        chosen = self.choice.of(values, box)
        return float(((chosen.astype(np.float64) - self.mean) ** 2).sum())


@dataclass(frozen=True)
class _Upper:
    choice: _Choice

    def __call__(self, values: Voxels, box: Box) -> npt.NDArray[np.int64]:
        keys = _sortable(self.choice.of(values, box))
        return np.bincount(keys >> np.uint32(16), minlength=1 << 16)


@dataclass(frozen=True)
class _Lower:
    choice: _Choice
    bins: tuple[int, ...]

    def __call__(self, values: Voxels, box: Box) -> list[npt.NDArray[np.int64]]:
        keys = _sortable(self.choice.of(values, box))
        inside = (keys[(keys >> np.uint32(16)) == chosen] for chosen in self.bins)
        return [np.bincount(some & np.uint32(0xFFFF), minlength=1 << 16) for some in inside]


@dataclass(frozen=True)
class _Range:
    choice: _Choice

    def __call__(self, values: Voxels, box: Box) -> tuple[float, float]:
        chosen = self.choice.of(values, box)
        return float(chosen.min()), float(chosen.max())


def _sortable(values: Voxels) -> npt.NDArray[np.uint32]:
    """Return unsigned integers that sort as the float32 values do."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _value(sortable: int) -> float:
    key = np.array([sortable], dtype=np.uint32)
    bits = np.where(key & _SIGN, key & ~_SIGN, ~key)
    return float(bits.astype(np.uint32).view(np.float32)[0])


def _between(value_at: dict[int, float], rank: float) -> float:
    low, high = int(np.floor(rank)), int(np.ceil(rank))
    return value_at[low] + (value_at[high] - value_at[low]) * (rank - low)
