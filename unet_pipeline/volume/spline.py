"""A view with another spacing, interpolated by cubic splines (for networks trained that way).

The values are those of ``scipy.ndimage.zoom(order=3, mode="nearest", grid_mode=True)``, clipped to
the range of the volume, which is what scikit-image's ``resize`` gives. There the coefficients of a
spline come from a recursive filter over the whole volume. Here they come from the same filter cut
off after ``REACH`` voxels, where it has decayed to 1e-9, so that any box can be read by itself and
has the same bits whatever the box.

Source: Unser, "Splines: a perfect fit for signal and image processing", IEEE SPM 16(6), 1999.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.views import Spacing3, View, Voxels

REACH = 16
_POLE = np.sqrt(3.0) - 2.0
_FILTER = np.sqrt(3.0) * _POLE ** np.abs(np.arange(-REACH, REACH + 1))
_TAPS = 4  # coefficients that a value is made of, along one axis

Bounds = npt.NDArray[np.float32]


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
        """Return the voxels of ``box``, shape CXYZ."""
        inner_box = self._inner_box(box)
        values = self.inner.read(inner_box).astype(np.float64)
        for axis in self._axes:
            values = self._interpolated(values, axis, inner_box.start[axis], box)
        low, high = (_within(bounds, box) for bounds in (self.low_C111, self.high_C111))
        return np.clip(values.astype(np.float32), low, high)

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(self._inner_box(box))

    @property
    def _axes(self) -> list[int]:
        return [axis for axis in range(3) if self.steps[axis] != 1.0]

    def _places(self, axis: int, box: Box) -> npt.NDArray[np.float64]:
        """Return where the voxels of a box lie along an axis, in voxels of the inner view."""
        centres = np.arange(box.start[axis], box.stop[axis], dtype=np.float64) + 0.5
        return np.asarray(centres * self.steps[axis] - 0.5, dtype=np.float64)

    def _coefficients(self, axis: int, box: Box) -> tuple[int, int]:
        """Return the first coefficient that a box needs along an axis, and the one after the last.

        They may lie beyond the ends of the volume, whose outermost values are repeated there.
        """
        places = self._places(axis, box)
        return int(np.floor(places[0])) - 1, int(np.floor(places[-1])) - 1 + _TAPS

    def _inner_box(self, box: Box) -> Box:
        start, stop = list(box.start), list(box.stop)
        for axis in self._axes:
            if box.size:
                first, end = self._coefficients(axis, box)
                last = self.inner.shape[axis] - 1
                start[axis] = min(max(first - REACH, 0), last)
                stop[axis] = min(max(end - 1 + REACH, 0), last) + 1
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def _interpolated(
        self, values: npt.NDArray[np.float64], axis: int, origin: int, box: Box
    ) -> npt.NDArray[np.float64]:
        """Filter and interpolate along one axis; ``values`` begin at inner voxel ``origin``."""
        first, end = self._coefficients(axis, box)
        last = self.inner.shape[axis] - 1
        around = np.clip(np.arange(first - REACH, end + REACH), 0, last) - origin
        filtered = correlate1d(values.take(around, axis + 1), _FILTER, axis + 1)
        places = self._places(axis, box)
        lowest = np.floor(places).astype(np.int64) - 1
        total: npt.NDArray[np.float64] | float = 0.0
        for tap, weight in enumerate(_weights(places - np.floor(places))):
            along = weight.reshape([-1 if a == axis + 1 else 1 for a in range(values.ndim)])
            total = total + filtered.take(lowest + tap - first + REACH, axis + 1) * along
        return np.asarray(total)


def _weights(share: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Return the cubic B-spline's values at four neighbouring knots, ``share`` past the second."""
    rest = 1.0 - share
    return [
        rest**3 / 6,
        (4 - 6 * share**2 + 3 * share**3) / 6,
        (4 - 6 * rest**2 + 3 * rest**3) / 6,
        share**3 / 6,
    ]


def _within(bounds: Bounds, box: Box) -> Bounds:
    """Cut bounds to a box, along the axes where they have a value per slice."""
    parts = [
        slice(None) if size == 1 else slice(a, b)
        for size, a, b in zip(bounds.shape[1:], box.start, box.stop, strict=True)
    ]
    return bounds[(slice(None), *parts)]
