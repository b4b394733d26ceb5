"""Connected parts of the labels of a map, slab by slab.

A library numbers the parts of a slab; parts that touch across the border of two slabs are joined.
The numbers of a slab are made again when they are asked for, so no array of them is as large as
the map.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csgraph

from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.compiling import compiled
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.volume.disk_arrays import each_slab, largest, let_go

Connectivity = Literal[6, 18, 26]
FULL: Connectivity = 26  # voxels that share a face, an edge or a corner are one part
_LABEL, _VOXELS, _FIRST, _LAST = 0, 1, slice(2, 5), slice(5, 8)  # rows of the facts of parts
_SIDEWAYS = {6: 0, 18: 1, 26: 2}  # how many of x and y may differ where two slices touch

Ints = npt.NDArray[np.int64]
Looks = Callable[[Labels], npt.NDArray[Any]]


@dataclass(frozen=True)
class Parts:
    """The connected parts of a map, in the order in which a file has their first voxels.

    Number 0 is background, which is not measured.

    Attributes
    ----------
    group
        The label that each part was found as.
    voxels
        Of each part.
    first, last
        The corners of the box of each part, both within it; (parts, 3).
    """

    group: Ints
    voxels: Ints
    first: Ints
    last: Ints
    _number: Callable[[slice], npt.NDArray[Any]]
    _slabs: tuple[tuple[slice, Ints], ...]  # and the part of each number of a slab

    @property
    def groups(self) -> list[npt.NDArray[np.intp]]:
        """The parts of each label, background left out."""
        return [np.flatnonzero(self.group == one) for one in np.unique(self.group[self.group > 0])]

    def slabs_with(
        self, chosen: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[slice, npt.NDArray[np.unsignedinteger]]]:
        """Yield each slab with a chosen part: its place on the last axis, and the parts in it.

        The map may be changed in slabs that were yielded, and in no other.
        """
        width = np.min_scalar_type(len(self.group))
        for slab, part_of in self._slabs:
            if chosen[part_of].any():
                yield slab, part_of.astype(width)[self._number(slab)]


def parts_of(
    labels_XYZ: Labels,
    labels: Iterable[int] = (),
    connectivity: Connectivity = FULL,
    *,
    together: bool = False,
) -> Parts:
    """Find the connected parts of each label.

    Parameters
    ----------
    labels
        Those that are looked at. Default: all.
    together
        Whether they count as one.
    """
    return parts_as(labels_XYZ, _grouping(labels_XYZ, list(labels), together), connectivity)


def parts_as(labels_XYZ: Labels, looks: Looks, connectivity: Connectivity = FULL) -> Parts:
    """Find the connected parts of what ``looks`` makes of each slab of a map."""
    facts, touching = [_no_facts(1)], []
    slabs: list[tuple[slice, Ints]] = []
    used, last_XY = 1, None

    def number(slab: slice) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
        slab_XYZ = np.asfortranarray(looks(labels_XYZ[..., slab]))
        found = cc3d.connected_components(slab_XYZ, connectivity=connectivity, return_N=True)
        return slab_XYZ, *found

    for slab in each_slab(labels_XYZ):
        slab_XYZ, numbers_XYZ, count = number(slab)
        facts.append(_no_facts(count + 1))
        _measure(numbers_XYZ.T, slab_XYZ.T, slab.start, facts[-1])
        known = np.r_[0, used : used + count]
        if last_XY is not None:
            touching.append(_pairs(last_XY, known[numbers_XYZ[..., 0]], connectivity))
        last_XY, used = known[numbers_XYZ[..., -1]], used + count
        slabs.append((slab, known))
    every = np.concatenate([facts[0], *(one[:, 1:] for one in facts[1:])], axis=1)
    part_of = _joined(touching, every[_LABEL])
    return Parts(
        *_gathered(every, part_of),
        lambda slab: number(slab)[1],
        tuple((slab, part_of[known]) for slab, known in slabs),
    )


def remove(
    labels_XYZ: Labels, parts: Parts, gone: npt.NDArray[np.bool_], step: object, voxel_ml: float
) -> list[LabelChange]:
    """Make background of parts, and say for each label how much that was.

    Parameters
    ----------
    labels_XYZ
        The map that ``parts`` are of, the first axis innermost.
    """
    check_order(labels_XYZ)
    lost, removed = Counter[int](), set[tuple[int, int]]()
    for slab, parts_XYZ in parts.slabs_with(gone):
        values, numbers = labels_XYZ[..., slab].ravel("F"), parts_XYZ.ravel("F")
        places = np.flatnonzero(gone[numbers])
        (labels, taken), voxels = _each_pair(values[places], numbers[places])
        for label, part, count in zip(
            *map(np.ndarray.tolist, (labels, taken, voxels)), strict=True
        ):
            lost[label] += count
            removed.add((label, part))
        values[places] = 0
        let_go(labels_XYZ[..., slab])
    counts = Counter(label for label, _ in removed)
    return [
        LabelChange.of(step, label, counts[label], -voxels, voxel_ml)
        for label, voxels in sorted(lost.items())
    ]


def check_order(labels_XYZ: Labels) -> None:
    """Refuse a map that cannot be changed in place along memory."""
    if not labels_XYZ.flags.f_contiguous:
        raise ValueError("the first axis of a label map must be innermost")


def _grouping(labels_XYZ: Labels, labels: list[int], together: bool) -> Looks:
    """Return what leaves those labels alone, or makes 1 of all of them."""
    if not labels and not together:
        return lambda slab_XYZ: slab_XYZ
    known = np.arange(largest(labels_XYZ) + 1)
    wanted = np.isin(known, labels) if labels else known > 0
    table = (wanted if together else np.where(wanted, known, 0)).astype(labels_XYZ.dtype)
    return lambda slab_XYZ: table[slab_XYZ]


def _pairs(before_XY: Ints, numbers_XY: Ints, connectivity: Connectivity) -> Ints:
    """Return the numbers that touch between two slices; (2, pairs)."""
    framed = np.pad(before_XY, 1)
    width, height = numbers_XY.shape
    found = []
    for x, y in product((-1, 0, 1), repeat=2):
        if abs(x) + abs(y) <= _SIDEWAYS[connectivity]:
            beside_XY = framed[1 + x : 1 + x + width, 1 + y : 1 + y + height]
            both = (beside_XY > 0) & (numbers_XY > 0)
            pairs = np.stack([beside_XY[both], numbers_XY[both]])
            other = np.diff(pairs, axis=1, prepend=0).any(axis=0)  # than the pair before it
            found.append(_each_pair(*pairs[:, other])[0])
    return np.concatenate(found, axis=1)


def _each_pair(ones: npt.NDArray[Any], others: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Return each pair of numbers that stand together, (2, pairs), and how often it does."""
    count = int(others.max(initial=0)) + 1
    pairs, often = np.unique(ones.astype(np.int64) * count + others, return_counts=True)
    return np.stack(np.divmod(pairs, count)), often


def _joined(touching: Sequence[Ints], label_of: Ints) -> Ints:
    """Return the part of each number, in the order of their first numbers."""
    pairs = np.concatenate([np.zeros((2, 0), np.int64), *touching], axis=1)
    pairs = pairs[:, label_of[pairs[0]] == label_of[pairs[1]]]
    ones = np.ones(pairs.shape[1], np.bool_)
    graph = coo_array((ones, tuple(pairs)), shape=(label_of.size, label_of.size))
    _, component = csgraph.connected_components(graph, directed=False)
    _, first, of_number = np.unique(component, return_index=True, return_inverse=True)
    part: Ints = np.argsort(np.argsort(first))[of_number]
    return part


def _no_facts(count: int) -> Ints:
    """Return, for each part: label, voxels, the first x, y, z and the last; (8, parts)."""
    facts = np.zeros((8, count), np.int64)
    facts[_FIRST], facts[_LAST] = np.iinfo(np.int64).max, -1
    return facts


def _gathered(facts: Ints, part_of: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Return label, voxels and corners of each part from those of its numbers."""
    gathered = _no_facts(int(part_of.max()) + 1)
    gathered[_LABEL, part_of] = facts[_LABEL]
    np.add.at(gathered[_VOXELS], part_of, facts[_VOXELS])
    for row in range(8)[_FIRST]:
        np.minimum.at(gathered[row], part_of, facts[row])
    for row in range(8)[_LAST]:
        np.maximum.at(gathered[row], part_of, facts[row])
    return gathered[_LABEL], gathered[_VOXELS], gathered[_FIRST].T, gathered[_LAST].T


@compiled
def _measure(numbers: Any, labels: Any, start: int, facts: Any) -> None:
    """Fill in label, voxels and corners of each part of a slab that begins at ``start``.

    ``numbers`` and ``labels`` have the last axis first, as they lie in memory.
    """
    for k in range(numbers.shape[0]):
        for j in range(numbers.shape[1]):
            one = 0
            for i in range(numbers.shape[2]):
                if numbers[k, j, i] == one:  # as the voxel before it
                    if one:
                        facts[1, one] += 1
                        facts[5, one] = max(facts[5, one], i)
                    continue
                one = numbers[k, j, i]
                if one == 0:
                    continue
                facts[0, one] = labels[k, j, i]
                facts[1, one] += 1
                facts[2, one], facts[5, one] = min(facts[2, one], i), max(facts[5, one], i)
                facts[3, one], facts[6, one] = min(facts[3, one], j), max(facts[6, one], j)
                facts[4, one], facts[7, one] = min(facts[4, one], start + k), start + k
