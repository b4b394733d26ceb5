"""Join the scores of overlapping windows so that the result never depends on the order.

Scores are added in fixed point: each weighted score is rounded once to a multiple of 2**-36 and
kept as an integer. Adding integers is associative and exact, so tiles, workers and arrival order
cannot change a bit (P3). 2**-36 leaves digits to a weight of 2**-27, and the integers hold the
scores of 4096 windows of weight 1 that lie over each other, each up to 2**15.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box, Index3

FIXED_POINT = 2.0**36
LARGEST_SCORE = 2.0**15

Sums = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Partial:
    """Weighted scores that one tile hands to another.

    Attributes
    ----------
    box
        Model voxels.
    sums_CXYZ
        Fixed-point sums of weight x score over the windows of the tile, per class.
    """

    box: Box
    sums_CXYZ: Sums


def to_fixed_point(values: npt.NDArray[np.float32]) -> Sums:
    """Round to multiples of 2**-36; the product by a power of two is exact."""
    fixed: Sums = np.rint(values * np.float32(FIXED_POINT)).astype(np.int64)
    return fixed


def weight_sum(
    box: Box, windows: Iterable[Index3], importance_XYZ: npt.NDArray[np.float32]
) -> Sums:
    """Return the fixed-point sum of window weights on each voxel of ``box``, shape XYZ.

    Parameters
    ----------
    windows
        First voxel of each window that may reach into ``box``.
    importance_XYZ
        Weight of each voxel of a window, of the window's shape.
    """
    weights_XYZ = to_fixed_point(importance_XYZ)
    total_XYZ = np.zeros(box.shape, dtype=np.int64)
    for start in windows:
        window = Box.at(start, importance_XYZ.shape)
        common = window.intersect(box)
        if common.size:
            total_XYZ[common.within(box)] += weights_XYZ[common.within(window)]
    return total_XYZ


def merged_scores(
    box: Box, partials: Sequence[Partial], weight_XYZ: Sums, class_index: int
) -> Scores:
    """Return the weighted mean score of one class on each voxel of ``box``, shape XYZ."""
    total_XYZ = np.zeros(box.shape, dtype=np.int64)
    for partial in partials:
        common = partial.box.intersect(box)
        total_XYZ[common.within(box)] += partial.sums_CXYZ[class_index][common.within(partial.box)]
    return np.asarray(total_XYZ / weight_XYZ, dtype=np.float32)


def smallest_label_type(classes: int) -> npt.DTypeLike:
    """Return the smallest unsigned integer type that holds the labels 0 .. classes - 1."""
    return np.uint8 if classes <= 256 else np.uint16 if classes <= 65536 else np.uint32
