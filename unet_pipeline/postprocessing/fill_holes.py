"""Fill the holes of labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt

from unet_pipeline.postprocessing.parts import FULL, Connectivity, boxes_of, check_order
from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels


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
        boxes = boxes_of(labels_XYZ)
        changes: list[LabelChange] = []
        for label in self.labels or boxes:
            if label in boxes:
                changes += self._fill(labels_XYZ[boxes[label]], label, voxel_ml)
        return changes

    def _fill(self, part_XYZ: Labels, label: int, voxel_ml: float) -> list[LabelChange]:
        """Fill the holes of a label in its own box: what reaches a side of it is open."""
        outside_XYZ = part_XYZ != label
        numbers_XYZ, count = cc3d.connected_components(
            outside_XYZ, connectivity=self.connectivity, return_N=True
        )
        is_hole = np.ones(count + 1, np.bool_)
        is_hole[0] = False
        for side in _sides(numbers_XYZ):
            is_hole[np.unique(side)] = False
        if not is_hole.any():
            return []
        holes_XYZ = is_hole[numbers_XYZ]
        lost, voxels = np.unique(part_XYZ[holes_XYZ], return_counts=True)
        part_XYZ[holes_XYZ] = label
        filled = LabelChange.of(self, label, int(is_hole.sum()), int(voxels.sum()), voxel_ml)
        others = zip(lost.tolist(), voxels.tolist(), strict=True)
        return [filled, *(LabelChange.of(self, k, 0, -n, voxel_ml) for k, n in others if k)]


def _sides(array_XYZ: npt.NDArray[np.unsignedinteger]) -> list[npt.NDArray[np.unsignedinteger]]:
    return [np.take(array_XYZ, end, axis) for axis in range(array_XYZ.ndim) for end in (0, -1)]


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> FillHoles:
    if len(arguments) > 1:
        raise ValueError("more than labels behind it")
    return FillHoles(numbers.read(arguments[0]) if arguments else ())


STEP = StepKind("fill-holes or fill-holes:LABELS", _read)
