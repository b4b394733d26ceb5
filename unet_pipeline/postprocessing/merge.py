"""Give several labels the number of one of them, or of another."""

from collections.abc import Sequence
from dataclasses import dataclass

from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.postprocessing.slabs import relabel
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
        lost = relabel(labels_XYZ, lambda label: self.into if label in self.labels else label)
        found = [(label, -voxels) for label, voxels in lost.items()]
        if found:
            found.append((self.into, lost.total()))
        return [LabelChange.of(self, label, 0, more, voxel_ml) for label, more in found]


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> Merge:
    if len(arguments) != 2:
        raise ValueError("no labels, or no label behind them")
    labels, into = (numbers.read(text) for text in arguments)
    if len(into) > 1:
        raise ValueError(f"several labels {arguments[1]!r} to merge into")
    return Merge(labels, into[0])


STEP = StepKind("merge:LABELS:LABEL", _read)
