"""Where an array is not zero, and what values it has, in one pass along its memory."""

from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.volume.disk_arrays import let_go

Array = npt.NDArray[Any]

_LARGEST_BINNED = 2**16  # values below are counted in bins, others by sorting


def counts_per_slice(values_XYZ: Array) -> list[npt.NDArray[np.int64]]:
    """Return for each axis how many voxels are not zero in each of its slices."""
    slow = int(np.argmax(np.abs(values_XYZ.strides)))
    slabs = np.moveaxis(values_XYZ, slow, 0)
    along, across = np.zeros(len(slabs), np.int64), np.zeros(slabs.shape[1:], np.int64)
    for first in range(0, len(slabs), 255):
        part = np.zeros(slabs.shape[1:], np.uint8, order="F" if _is_turned(slabs) else "C")
        for index, slab in enumerate(slabs[first : first + 255], start=first):
            occupied = slab != 0
            along[index] = np.count_nonzero(occupied)
            part += occupied
            let_go(slab)
        across += part
    counts = [across.sum(axis=1), across.sum(axis=0)]
    counts.insert(slow, along)
    return counts


def label_counts(mask_XYZ: Array) -> dict[int, int]:
    """Return the labels of a mask of whole numbers, and their voxels."""
    counts: dict[int, int] = {}
    slow = int(np.argmax(np.abs(mask_XYZ.strides)))
    for slab in np.moveaxis(mask_XYZ, slow, 0):
        for value, n in _counted(slab.ravel(order="K")):
            counts[value] = counts.get(value, 0) + n
        let_go(slab)
    return dict(sorted(counts.items()))


def _counted(values: Array) -> list[tuple[int, int]]:
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() < _LARGEST_BINNED:
        voxels = np.bincount(values)
        found = np.flatnonzero(voxels)
        return [(int(value), int(voxels[value])) for value in found]
    pairs = zip(*np.unique(values, return_counts=True), strict=True)
    return [(int(value), int(n)) for value, n in pairs]


def _is_turned(slabs: Array) -> bool:
    """Say whether the first axis of a slab is the inner one of memory."""
    return abs(slabs.strides[1]) < abs(slabs.strides[2])
