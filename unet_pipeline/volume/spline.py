"""A view with another spacing, interpolated by cubic splines (for networks trained that way).

The values are those of ``scipy.ndimage.zoom(order=3, mode="nearest", grid_mode=True)``, clipped to
the range of the volume, which is what scikit-image's ``resize`` gives. There the coefficients of a
spline come from a recursive filter over the whole volume. Here they come from the same filter cut
off after ``REACH`` voxels, where it has decayed to 1e-9, so that any box can be read by itself and
has the same bits whatever the box. Filtering and interpolating are one weighted sum, of
``_NEIGHBOURS`` voxels along each axis, added in one order in float64.

Source: Unser, "Splines: a perfect fit for signal and image processing", IEEE SPM 16(6), 1999.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume import kernels
from unet_pipeline.volume.layout import in_order
from unet_pipeline.volume.views import Spacing3, View, Voxels, parts

REACH = 16
_POLE = np.sqrt(3.0) - 2.0
_FILTER = np.sqrt(3.0) * _POLE ** np.abs(np.arange(-REACH, REACH + 1))
_KNOTS = 4  # coefficients that a value is made of, along one axis
_NEIGHBOURS = _KNOTS + 2 * REACH  # voxels that these are made of
_PART_BYTES = 8_000_000
_COLUMNS = 128  # that are summed at a time, to stay in the inner caches

Bounds = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Sums = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spline:
    """A view with another spacing, cubic along some of its axes and unchanged along the others.

    Attributes
    ----------
    steps
        Distance of neighbouring voxels, in voxels of the inner view. Voxel 0 lies where the
        outer faces of both grids coincide. An axis of step 1 is copied.
    low_C111, high_C111
        What the values are clipped to: one number per channel, or also one per slice.
    """

    inner: View
    steps: Spacing3
    shape: Index3
    low_C111: Bounds
    high_C111: Bounds

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.inner.channels

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ.

        The inner view is read in parts along the last axis. Along the others, a part is
        interpolated at once, so that only the little that is left of it is kept.
        """
        *first, last = self._order
        inner_box = self._inner_box(box)
        shape = [*box.shape]
        shape[last] = inner_box.shape[last]
        values = np.empty((self.channels, *shape), np.float64)
        for part in parts(inner_box, last, _PART_BYTES // self.channels):
            here: npt.NDArray[Any] = self.inner.read(part)
            for axis in first:
                here = self._interpolated(here, axis, part, box, np.float64)
            along = [slice(None)] * 4
            along[last + 1] = part.within(inner_box)[last]
            values[tuple(along)] = here
        result = self._interpolated(values, last, inner_box, box, np.float32)
        low, high = (_within(bounds, box) for bounds in (self.low_C111, self.high_C111))
        return np.clip(result, low, high, out=result)

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(self._inner_box(box))

    @property
    def _order(self) -> list[int]:
        """Axes in the order of interpolation: the one that leaves the least comes first.

        Of equals the first axis is last, as that is the best to cut an array into parts along; and
        copied ones are after all, as parts do not overlap then.
        """
        copied = [step == 1.0 for step in self.steps]
        return sorted((1, 2, 0), key=lambda axis: (copied[axis], -self.steps[axis]))

    def _places(self, axis: int, box: Box) -> Sums:
        """Return where the voxels of a box lie along an axis, in voxels of the inner view."""
        centres = np.arange(box.start[axis], box.stop[axis], dtype=np.float64) + 0.5
        return np.asarray(centres * self.steps[axis] - 0.5, dtype=np.float64)

    def _neighbours(self, axis: int, box: Box) -> Indices:
        """Return the inner voxels that those of a box are made of along an axis, a row for each.

        The outermost voxels stand for those beyond.
        """
        first = np.floor(self._places(axis, box)).astype(np.int64) - 1 - REACH
        last = self.inner.shape[axis] - 1
        return np.asarray(np.clip(first[:, None] + np.arange(_NEIGHBOURS), 0, last))

    def _inner_box(self, box: Box) -> Box:
        start, stop = list(box.start), list(box.stop)
        for axis in range(3):
            if self.steps[axis] != 1.0 and box.size:
                low, high = (
                    self._neighbours(axis, box.between(axis, at, at + 1))
                    for at in (box.start[axis], box.stop[axis] - 1)
                )
                start[axis], stop[axis] = int(low[0, 0]), int(high[-1, -1]) + 1
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def _interpolated(
        self, values: npt.NDArray[Any], axis: int, origin: Box, box: Box, kind: type[np.floating]
    ) -> npt.NDArray[Any]:
        """Filter and interpolate along one axis; ``values`` are those of the inner box ``origin``.

        The result has the type ``kind``; sums are taken in float64.
        """
        if self.steps[axis] == 1.0:
            return values.astype(kind)
        index, places = self._neighbours(axis, box) - origin.start[axis], self._places(axis, box)
        shape = [*values.shape]
        shape[axis + 1] = len(index)
        result = np.empty(shape, kind)
        _weigh(in_order(values), axis + 1, index, _weights(places - np.floor(places)), result)
        return result


def _weigh(
    values: npt.NDArray[Any],
    axis: int,
    index_Bt: Indices,
    weight_Bt: Sums,
    result: npt.NDArray[Any],
) -> None:
    """Fill a result with weighted sums of values along an axis; both in C order."""
    before, after = values.shape[axis], result.shape[axis]
    total = np.empty(_COLUMNS)
    if axis == values.ndim - 1:
        source, target = values.reshape(-1, before), result.reshape(-1, after)
        turned = np.empty((before, _COLUMNS)), np.empty((after, _COLUMNS))
        kernels.weigh_within_rows(source, index_Bt, weight_Bt, target, *turned, total)
    else:
        outer = int(np.prod(values.shape[:axis]))
        rows, sums = values.reshape(outer, before, -1), result.reshape(outer, after, -1)
        kernels.weigh_rows(rows, index_Bt, weight_Bt, sums, total)


def _weights(share: Sums) -> Sums:
    """Return the weights of the neighbours of places, each ``share`` past its voxel; a row each.

    They are those of a cubic B-spline at four neighbouring knots, each filtered.
    """
    rest = 1.0 - share
    knots = [
        rest * rest * rest / 6,
        (4 - 6 * share * share + 3 * share * share * share) / 6,
        (4 - 6 * rest * rest + 3 * rest * rest * rest) / 6,
        share * share * share / 6,
    ]
    weights = np.zeros((len(share), _NEIGHBOURS))
    for knot, weight in enumerate(knots):
        weights[:, knot : knot + len(_FILTER)] += weight[:, None] * _FILTER
    return weights


def _within(bounds: Bounds, box: Box) -> Bounds:
    """Cut bounds to a box, along the axes where they have a value per slice."""
    parts = [
        slice(None) if size == 1 else slice(a, b)
        for size, a, b in zip(bounds.shape[1:], box.start, box.stop, strict=True)
    ]
    return bounds[(slice(None), *parts)]
