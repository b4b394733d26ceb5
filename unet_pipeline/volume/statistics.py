"""Numbers about a whole volume, from one or two passes over it in slabs.

The slabs depend on the volume's shape alone, so a result does not depend on tiles or workers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.layout import in_order
from unet_pipeline.volume.views import View, Voxels, parts, slabs

Mask = npt.NDArray[np.bool_]
_SIGN = np.uint32(1 << 31)
_PLANES_BYTES = 16_000_000


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
    total, count = 0.0, 0
    for values in _values(view, nonzero, channels, mask_XYZ):
        total, count = total + float(values.sum(dtype=np.float64)), count + values.size
    if count == 0:
        return 0.0, 1.0
    mean, squares = total / count, 0.0
    for values in _values(view, nonzero, channels, mask_XYZ):
        squares += float(((values.astype(np.float64) - mean) ** 2).sum())
    return mean, float(np.sqrt(squares / count))


def percentiles(
    view: View, wanted: Sequence[float], channels: Sequence[int] | None = None
) -> list[float]:
    """Return exact percentiles (0-100) with linear interpolation, in bounded memory.

    The bits of a float32 sort as its value does, after a small change. Two histograms find each
    order statistic exactly: one of the upper 16 bits, one of the lower 16 bits within the bin.
    """
    upper = np.zeros(1 << 16, dtype=np.int64)
    for values in _values(view, False, channels):
        upper += np.bincount(_sortable(values) >> np.uint32(16), minlength=1 << 16)
    count = int(upper.sum())
    ranks = [share / 100 * (count - 1) for share in wanted]
    needed = sorted({int(f(rank)) for rank in ranks for f in (np.floor, np.ceil)})
    bins = {rank: int(np.searchsorted(np.cumsum(upper), rank, side="right")) for rank in needed}
    lower = {chosen: np.zeros(1 << 16, dtype=np.int64) for chosen in bins.values()}
    for values in _values(view, False, channels):
        keys = _sortable(values)
        for chosen, histogram in lower.items():
            inside = keys[(keys >> np.uint32(16)) == chosen]
            histogram += np.bincount(inside & np.uint32(0xFFFF), minlength=1 << 16)
    before = np.concatenate([[0], np.cumsum(upper)])
    value_at = {
        rank: _value((chosen << 16) + int(np.searchsorted(
            np.cumsum(lower[chosen]), rank - before[chosen], side="right")))
        for rank, chosen in bins.items()
    }  # fmt: skip
    return [_between(value_at, rank) for rank in ranks]


def value_range(view: View, channel: int) -> tuple[float, float]:
    """Return the smallest and the largest value of a channel."""
    ranges = [(float(v.min()), float(v.max())) for v in _values(view, False, [channel])]
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
    others = tuple(a + 1 for a in range(3) if a not in kept)
    for slab in _planes(view):
        values = view.read(slab)
        part = [slice(a, b) if i in kept else slice(None) for i, (a, b) in
                enumerate(zip(slab.start, slab.stop, strict=True))]  # fmt: skip
        here = (slice(None), *part)
        low[here] = np.minimum(low[here], values.min(axis=others, keepdims=True))
        high[here] = np.maximum(high[here], values.max(axis=others, keepdims=True))
    return low, high


def foreground_box(view: View) -> Box | None:
    """Return the smallest box that holds every voxel above 0 in any channel, or None."""
    return _box_where(view, slabs(view), lambda values: values > 0)


def nonzero_box(view: View) -> Box | None:
    """Return the smallest box that holds every voxel that is not 0 in some channel, or None."""
    return _box_where(view, _planes(view), lambda values: values != 0)


def _planes(view: View) -> list[Box]:
    """Cut a view along its first axis, which is the last of a file in the views of nnU-Net."""
    return parts(Box.whole(view.shape), 0, _PLANES_BYTES // view.channels)


def _box_where(
    view: View, boxes: list[Box], test: Callable[[Voxels], npt.NDArray[np.bool_]]
) -> Box | None:
    found: Box | None = None
    for slab in boxes:
        foreground_XYZ = np.asarray(test(view.read(slab)).any(axis=0))
        if not foreground_XYZ.any():
            continue
        others = ((1, 2), (0, 2), (0, 1))
        ranges = [np.flatnonzero(foreground_XYZ.any(axis=axes)) for axes in others]
        start = [int(r[0]) + offset for r, offset in zip(ranges, slab.start, strict=True)]
        shape = [int(r[-1] - r[0]) + 1 for r in ranges]
        box = Box.at(start, shape)
        found = box if found is None else found.union(box)
    return found


def _values(
    view: View, nonzero: bool, channels: Sequence[int] | None, mask_XYZ: Mask | None = None
) -> Iterator[Voxels]:
    for box in slabs(view):
        values = in_order(view.read(box))  # sums are taken in one order, however a file is stored
        chosen = values if channels is None else values[list(channels)]
        if mask_XYZ is not None:
            chosen = chosen[:, mask_XYZ[box.within(Box.whole(view.shape))]]
        yield chosen[chosen != 0] if nonzero else chosen.ravel()


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
