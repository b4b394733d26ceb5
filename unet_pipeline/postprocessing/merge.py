"""Give several labels the number of one of them, or of another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels


@dataclass(frozen=True)
class Merge:
    """Voxels of ``labels`` get the label ``into``."""

    labels: tuple[int, ...]
    into: int

    def __str__(self) -> str:
        return named("merge", ",".join(map(str, self.labels)), labels=(self.into,))

    def leaves(self, labels: frozenset[int]) -> frozenset[int]:
        """Return the label that others are merged into, and those that are left."""
        rest = labels - frozenset(self.labels)
        return rest | {self.into} if labels & frozenset(self.labels) else rest

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> list[LabelChange]:
        """Do so to a label map in place."""
        merged_XYZ = np.isin(labels_XYZ, [label for label in self.labels if label != self.into])
        labels, voxels = np.unique(labels_XYZ[merged_XYZ], return_counts=True)
        labels_XYZ[merged_XYZ] = self.into
        lost = zip(labels.tolist(), (-voxels).tolist(), strict=True)
        found = [*lost, (self.into, int(voxels.sum()))] if len(labels) else []
        return [LabelChange.of(self, label, 0, more, voxel_ml) for label, more in found]


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> Merge:
    if len(arguments) != 2:
        raise ValueError("no labels, or no label behind them")
    labels, into = (numbers.read(text) for text in arguments)
    if len(into) > 1:
        raise ValueError(f"several labels {arguments[1]!r} to merge into")
    return Merge(labels, into[0])


STEP = StepKind("merge:LABELS:LABEL", _read)
