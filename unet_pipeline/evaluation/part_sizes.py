"""How large the connected parts of each label are, from two slices at a time.

The classical pass of Rosenfeld and Pfaltz (Sequential Operations in Digital Picture Processing,
1966) in three dimensions: a voxel takes the number of a neighbour that was seen before, numbers
that turn out to be one part are joined, and no number is kept but in the slice and the one before.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.tiling.compiling import compiled


def part_sizes(labels_XYZ: NDArray[Any]) -> dict[int, NDArray[np.int64]]:
    """Return the voxels of each connected part (26 neighbours) of each label, background left out.

    Parameters
    ----------
    labels_XYZ
        Unsigned integers, the first axis innermost in memory.
    """
    labels_ZYX = labels_XYZ.T
    depth, height, width = labels_ZYX.shape
    numbers = np.zeros((2, height + 2, width + 2), np.int64)
    framed = np.zeros((2, height + 2, width + 2), labels_XYZ.dtype)
    parent, voxels, label_of = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    used = 1  # number 0 is background
    for z in range(depth):
        now, before = z % 2, 1 - z % 2
        framed[now, 1:-1, 1:-1] = labels_ZYX[z]
        room = used + height * width
        if room > len(parent):
            grown = max(room, 2 * used)
            parent, voxels, label_of = (
                np.concatenate([one[:used], np.zeros(grown - used, np.int64)])
                for one in (parent, voxels, label_of)
            )
        used = _number_slice(
            framed[now],
            framed[before],
            numbers[now],
            numbers[before],
            parent,
            voxels,
            label_of,
            used,
        )
    _gather(parent, voxels, used)
    roots = np.flatnonzero(voxels[:used])
    roots = roots[np.argsort(label_of[roots], kind="stable")]
    labels, firsts = np.unique(label_of[roots], return_index=True)
    return dict(zip(labels.tolist(), np.split(voxels[roots], firsts)[1:], strict=True))


@compiled
def _root(parent: Any, number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number


@compiled
def _number_slice(
    labels: Any,
    labels_before: Any,
    numbers: Any,
    numbers_before: Any,
    parent: Any,
    voxels: Any,
    label_of: Any,
    used: int,
) -> int:
    """Give numbers to the voxels of a slice in a frame of one voxel; return how many are used.

    The voxel right behind touches all others that were seen before, so where it has the label, its
    number is that of all of them.
    """
    for y in range(1, labels.shape[0] - 1):
        for x in range(1, labels.shape[1] - 1):
            label = labels[y, x]
            if label == 0:
                numbers[y, x] = 0
                continue
            number = 0
            if labels_before[y, x] == label:
                number = numbers_before[y, x]
            else:
                for j in range(y - 1, y + 2):
                    for i in range(x - 1, x + 2):
                        if labels_before[j, i] == label:
                            number = _joined(parent, number, numbers_before[j, i])
                for i in range(x - 1, x + 2):
                    if labels[y - 1, i] == label:
                        number = _joined(parent, number, numbers[y - 1, i])
                if labels[y, x - 1] == label:
                    number = _joined(parent, number, numbers[y, x - 1])
                if number == 0:
                    number = used
                    parent[number], label_of[number] = number, label
                    used += 1
            numbers[y, x] = number
            voxels[number] += 1
    return used


@compiled
def _joined(parent: Any, one: int, other: int) -> int:
    """Return the number of what two numbers are together; 0 is none."""
    other = _root(parent, other)
    if one == 0:
        return other
    one = _root(parent, one)
    if one < other:
        parent[other] = one
        return one
    parent[one] = other
    return other


@compiled
def _gather(parent: Any, voxels: Any, used: int) -> None:
    """Add the voxels of joined numbers up in their roots."""
    for number in range(1, used):
        root = _root(parent, number)
        if root != number:
            voxels[root] += voxels[number]
            voxels[number] = 0
