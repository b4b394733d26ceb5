"""Fill the holes of labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.postprocessing.parts import (
    FULL,
    Connectivity,
    check_order,
    parts_as,
    parts_of,
)
from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.volume.disk_arrays import let_go

_LEAST = 3  # voxels along each axis of what encloses a voxel


@dataclass(frozen=True)
class FillHoles:
    """What a label encloses gets that label, other labels too, one label after the other.

    A hole is a connected part of what the label is not, that reaches no side of the volume.

    Attributes
    ----------
    labels
        None: all, in the order of their numbers.
    connectivity
        Of holes: with 26, one that is open at a corner is none.
    """

    labels: tuple[int, ...] = ()
    connectivity: Connectivity = FULL

    def __str__(self) -> str:
        options = {f"{self.connectivity} neighbours": self.connectivity != FULL}
        return named("fill-holes", labels=self.labels, options=options)

    def leaves(self, labels: frozenset[int]) -> frozenset[int]:
        """Return all of them."""
        return labels

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> list[LabelChange]:
        """Do so to a label map in place."""
        check_order(labels_XYZ)
        boxes = _boxes_of_parts(labels_XYZ)
        changes: list[LabelChange] = []
        for label in self.labels or sorted(boxes):
            filled = [self._fill(labels_XYZ[box], label) for box in boxes.get(label, ())]
            changes += self._changes(label, filled, voxel_ml)
        return changes

    def _fill(self, inside_XYZ: Labels, label: int) -> tuple[int, Counter[int]]:
        """Fill the holes in the box of a part; return how many, and the voxels of what was there.

        Each hole is enclosed by one part, so it lies in the box of that part, and reaches no side
        of it. Small boxes are quick: a speck does not make a box of the whole volume.
        """
        parts = parts_as(inside_XYZ, lambda slab_XYZ: slab_XYZ != label, self.connectivity)
        sides = np.array(inside_XYZ.shape) - 1
        is_hole = ~((parts.first == 0) | (parts.last == sides)).any(axis=1, keepdims=True)[:, 0]
        is_hole[0] = False
        lost = Counter[int]()
        for slab, parts_XYZ in parts.slabs_with(is_hole):
            holes_XYZ, slab_XYZ = is_hole[parts_XYZ], inside_XYZ[..., slab]
            others, voxels = np.unique(slab_XYZ[holes_XYZ], return_counts=True)
            lost += Counter(dict(zip(others.tolist(), voxels.tolist(), strict=True)))
            slab_XYZ[holes_XYZ] = label
            let_go(slab_XYZ)
        return int(is_hole.sum()), lost

    def _changes(
        self, label: int, filled: Sequence[tuple[int, Counter[int]]], voxel_ml: float
    ) -> Iterator[LabelChange]:
        """Yield what became of a label, and of those that it took voxels from."""
        holes = sum(count for count, _ in filled)
        lost = sum((voxels for _, voxels in filled), Counter[int]())
        if holes:
            yield LabelChange.of(self, label, holes, lost.total(), voxel_ml)
            for other in sorted(lost):
                if other:
                    yield LabelChange.of(self, other, 0, -lost[other], voxel_ml)


def _boxes_of_parts(labels_XYZ: Labels) -> dict[int, list[tuple[slice, ...]]]:
    """Return the boxes of the parts of each label that are large enough to enclose something."""
    parts = parts_of(labels_XYZ)
    large = (parts.group > 0) & (parts.last - parts.first + 1 >= _LEAST).all(axis=1)
    found: dict[int, list[tuple[slice, ...]]] = {}
    for part in np.flatnonzero(large):
        corners = zip(parts.first[part].tolist(), parts.last[part].tolist(), strict=True)
        box = tuple(slice(first, last + 1) for first, last in corners)
        found.setdefault(int(parts.group[part]), []).append(box)
    return found


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> FillHoles:
    if len(arguments) > 1:
        raise ValueError("more than labels behind it")
    return FillHoles(numbers.read(arguments[0]) if arguments else ())


STEP = StepKind("fill-holes or fill-holes:LABELS", _read)
