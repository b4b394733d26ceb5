"""Join the scores of overlapping windows so that the result never depends on the order.

Scores are added in fixed point: each weighted score is rounded once to a multiple of 2**-36 and
kept as an integer. Adding integers is associative and exact, so tiles, workers and arrival order
cannot change a bit (P3). 2**-36 leaves digits to a weight of 2**-27, and the integers hold the
scores of 4096 windows of weight 1 that lie over each other, each up to 2**15.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from unet_pipeline.clock import check_time
from unet_pipeline.tiling import kernels
from unet_pipeline.tiling.box import Box, Index3

FIXED_POINT = 2.0**36
LARGEST_SCORE = 2.0**15
_UNIT, _LIMIT = np.float32(FIXED_POINT), np.float32(LARGEST_SCORE)

Sums = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

Part = TypeVar("Part")
Result = TypeVar("Result")

_Span = tuple[int, int]


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

    def __post_init__(self) -> None:
        if self.sums_CXYZ.shape[1:] != self.box.shape:
            raise ValueError(f"sums of {self.sums_CXYZ.shape[1:]} voxels for {self.box}")


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
        check_time()
        window = Box.at(start, importance_XYZ.shape)
        common = window.intersect(box)
        if common.size:
            total_XYZ[common.within(box)] += weights_XYZ[common.within(window)]
    return total_XYZ


@dataclass(frozen=True)
class Merged:
    """The scores of a tile, not yet divided by the weights.

    Attributes
    ----------
    box
        Model voxels: the score box of the tile.
    partials
        Those of all tiles whose windows reach into the box.
    weight_XYZ
        Sum of the windows' weights, fixed point.
    """

    box: Box
    partials: Sequence[Partial]
    weight_XYZ: Sums

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.partials[0].sums_CXYZ.shape[0])

    def totals(self, box: Box) -> Sums:
        """Return the fixed-point sums of all classes, shape CXYZ; perhaps a view."""
        parts = [(p, p.box.intersect(box)) for p in self.partials if p.box.intersect(box).size]
        if len(parts) == 1 and parts[0][1] == box:
            return parts[0][0].sums_CXYZ[(slice(None), *box.within(parts[0][0].box))]
        total_CXYZ = np.zeros((self.classes, *box.shape), dtype=np.int64)
        for partial, common in parts:
            part_CXYZ = partial.sums_CXYZ[(slice(None), *common.within(partial.box))]
            total_CXYZ[(slice(None), *common.within(box))] += part_CXYZ
        return total_CXYZ

    def scores(self, box: Box, class_index: int) -> Scores:
        """Return the weighted mean score of one class on each voxel of a box, shape XYZ."""
        total_XYZ = np.zeros(box.shape, dtype=np.int64)
        for partial in self.partials:
            common = partial.box.intersect(box)
            part_XYZ = partial.sums_CXYZ[class_index][common.within(partial.box)]
            total_XYZ[common.within(box)] += part_XYZ
        return np.asarray(total_XYZ / self.weights(box), dtype=np.float32)

    def weights(self, box: Box) -> Sums:
        """Return the sum of the windows' weights on each voxel of a box, shape XYZ."""
        return self.weight_XYZ[box.within(self.box)]


def add_window(
    sums_CXYZ: Sums,
    scores_Cxyz: Scores,
    importance_xyz: Scores,
    part: Box,
    offset: Index3,
    threads: int,
) -> bool:
    """Add the weighted scores of a part of one window to the sums, in one pass.

    Parameters
    ----------
    scores_Cxyz, importance_xyz
        Scores of the window's voxels, and their weights, 0 to 1. In memory the voxels of a class,
        or the classes of a voxel, lie side by side; other orders are copied first.
    part
        Voxels of the window.
    offset
        What is added to the index of a voxel of the part for its index in ``sums_CXYZ``.

    Returns
    -------
    bool
        Whether all scores are finite and below ``LARGEST_SCORE``; if not, the sums are spoilt.
    """
    importance = np.ascontiguousarray(importance_xyz)
    scores_xyzC = scores_Cxyz.transpose(1, 2, 3, 0)
    turned = scores_xyzC.flags.c_contiguous and not scores_Cxyz.flags.c_contiguous
    scores = scores_xyzC if turned else np.ascontiguousarray(scores_Cxyz)

    def add_classes(classes: _Span) -> int:
        where = (part.start, part.stop, offset)
        wild: int = kernels.add_weighted(
            sums_CXYZ, scores, importance, *where, classes, _UNIT, _LIMIT
        )
        return wild

    def add_planes(planes: _Span) -> int:
        box = part.between(0, *planes)
        block_Cz = np.empty((len(sums_CXYZ), box.stop[2]), np.float32)
        where = (box.start, box.stop, offset)
        wild: int = kernels.add_weighted_turned(
            sums_CXYZ, scores, importance, *where, _UNIT, _LIMIT, block_Cz
        )
        return wild

    if turned:
        found = shared(threads, add_planes, _spans(part.start[0], part.stop[0], threads))
    else:
        found = shared(threads, add_classes, _spans(0, len(scores), threads))
    return sum(found) == 0


def shared(threads: int, work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Do the parts of some work on this many threads; return the results in order."""
    if threads == 1 or len(parts) <= 1:
        return list(map(work, parts))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def _spans(start: int, stop: int, count: int) -> list[tuple[int, int]]:
    """Cut start .. stop into at most ``count`` spans of almost one size."""
    edges = sorted({start + (stop - start) * i // count for i in range(count + 1)})
    return list(pairwise(edges))


def smallest_label_type(classes: int) -> npt.DTypeLike:
    """Return the smallest unsigned integer type that holds the labels 0 .. classes - 1."""
    return np.uint8 if classes <= 256 else np.uint16 if classes <= 65536 else np.uint32
