"""Join the scores of overlapping windows so that the result never depends on the order.

Scores are added in fixed point: each weighted score is rounded once to a multiple of 2**-24 and
kept as an integer. Adding integers is associative and exact, so tiles, workers and arrival order
cannot change a bit (P3). 2**-24 is the spacing of float32 just below 1, and the integers hold
sums up to 2**39.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box, Index3

FIXED_POINT = 2.0**24
LARGEST_SCORE = 2.0**31

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
    """Round to multiples of 2**-24; the product by a power of two is exact."""
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


def decide(scores_of_classes: Iterable[Scores], classes: int) -> npt.NDArray[np.unsignedinteger]:
    """Return the class of the highest score on each voxel; of equal ones the lowest class.

    Takes the scores class by class, so memory does not grow with the number of classes.
    """
    iterator = iter(scores_of_classes)
    best_XYZ = next(iterator)
    labels_XYZ = np.zeros(best_XYZ.shape, dtype=smallest_label_type(classes))
    for index, scores_XYZ in enumerate(iterator, start=1):
        higher_XYZ = scores_XYZ > best_XYZ
        labels_XYZ[higher_XYZ] = index
        best_XYZ = np.maximum(best_XYZ, scores_XYZ)
    return labels_XYZ
