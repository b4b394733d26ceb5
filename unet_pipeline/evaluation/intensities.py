"""The values of one channel under a label, and the value of a channel where there is no patient."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.views import View

_CHUNK = 2**20  # values that are float64 at once
_PERCENTILES = (5.0, 50.0, 95.0)
_CORNERS_ALIKE = 4  # of 8, to the bit: noise is never alike in so many


class Intensities(Protocol):
    """The values of one channel under a label."""

    @property
    def mean(self) -> float:
        """Their mean."""

    @property
    def sd(self) -> float:
        """Their standard deviation, of a sample."""

    @property
    def percentiles(self) -> Mapping[float, float]:
        """5 %, median and 95 %, by linear interpolation between values."""

    def share_of(self, value: float) -> float:
        """Return the share of voxels with just this value."""


@dataclass(frozen=True)
class Values:
    """All values under a label, float32; their order does not matter."""

    values: NDArray[np.float32]

    @cached_property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values, dtype=np.float64))

    @cached_property
    def sd(self) -> float:
        """Their standard deviation, of a sample; without a copy of them as float64."""
        size = self.values.size
        squares = sum(
            float(np.square(self.values[first : first + _CHUNK] - np.float64(self.mean)).sum())
            for first in range(0, size, _CHUNK)
        )
        return sqrt(squares / max(size - 1, 1))

    @cached_property
    def percentiles(self) -> dict[float, float]:
        """5 %, median and 95 %, by linear interpolation between values."""
        _ = self.mean, self.sd  # sums of values that are then put in another order
        found = np.percentile(self.values, _PERCENTILES, overwrite_input=True)
        return dict(zip(_PERCENTILES, found.tolist(), strict=True))

    def share_of(self, value: float) -> float:
        """Return the share of voxels with just this value."""
        return float(np.count_nonzero(self.values == np.float32(value)) / self.values.size)


@dataclass(frozen=True)
class CountedValues:
    """How often each value stands under a label: of one whose values would take much memory."""

    values: NDArray[np.float32]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Iterable[NDArray[np.float32]]) -> "CountedValues":
        """Count the values of several arrays."""
        values, counts = np.empty(0, np.float32), np.empty(0, np.int64)
        for part in parts:
            more, often = np.unique(part, return_counts=True)
            both = np.union1d(values, more)
            total = np.zeros(both.size, np.int64)
            total[np.searchsorted(both, values)] += counts
            total[np.searchsorted(both, more)] += often
            values, counts = both, total
        return cls(values, counts)

    @cached_property
    def mean(self) -> float:
        """Their mean."""
        return float(self.values @ self.counts.astype(np.float64) / self.counts.sum())

    @cached_property
    def sd(self) -> float:
        """Their standard deviation, of a sample."""
        squares = np.square(self.values - np.float64(self.mean)) @ self.counts
        return sqrt(float(squares) / max(int(self.counts.sum()) - 1, 1))

    @cached_property
    def percentiles(self) -> dict[float, float]:
        """5 %, median and 95 %, by linear interpolation between values."""
        ends = np.cumsum(self.counts)
        places = [(int(ends[-1]) - 1) * percent / 100 for percent in _PERCENTILES]
        low, high = (
            self.values[np.searchsorted(ends, whole(places).astype(np.int64), side="right")]
            for whole in (np.floor, np.ceil)
        )
        found = low + (high - low) * (np.array(places) - np.floor(places))
        return dict(zip(_PERCENTILES, found.tolist(), strict=True))

    def share_of(self, value: float) -> float:
        """Return the share of voxels with just this value."""
        return float(self.counts[self.values == np.float32(value)].sum() / self.counts.sum())


def padding_of(image: View, shape: Sequence[int]) -> float | None:
    """Return the value that the corners of a volume have where a scan was filled up.

    Zeros around a rotated volume or a brain without its skull, -1024 or -3024 outside of the circle
    that a CT reconstructs. None where fewer than half of the corners have one value, as in noise.
    """
    ends = product(*((0, size - 1) for size in shape))
    corners = [image.read(Box((x, y, z), (x + 1, y + 1, z + 1))) for x, y, z in ends]
    value, count = Counter(float(one[0, 0, 0, 0]) for one in corners).most_common(1)[0]
    return value if count >= _CORNERS_ALIKE and np.isfinite(value) else None
