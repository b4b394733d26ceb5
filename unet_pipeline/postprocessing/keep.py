"""Keep some labels, and make background of the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.postprocessing.slabs import relabel
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels


@dataclass(frozen=True)
class Keep:
    """Labels that are not among ``labels`` become background."""

    labels: tuple[int, ...]

    def __str__(self) -> str:
        return named("keep", labels=self.labels or (0,))

    def leaves(self, labels: frozenset[int]) -> frozenset[int]:
        """Return those that are kept."""
        return labels & frozenset(self.labels)

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> list[LabelChange]:
        """Do so to a label map in place."""
        gone = relabel(labels_XYZ, lambda label: label if label in self.labels else 0)
        return [LabelChange.of(self, label, 0, -count, voxel_ml) for label, count in gone.items()]


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> Keep:
    if len(arguments) != 1:
        raise ValueError("no labels, or more than labels behind it")
    return Keep(numbers.read(arguments[0]))


STEP = StepKind("keep:LABELS", _read)
