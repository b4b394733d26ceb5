"""Keep the largest part of each label, as MONAI's ``KeepLargestConnectedComponent`` does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.postprocessing.parts import parts_of, remove
from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.storage.sidecar import Removed
from unet_pipeline.tiling.decision import Labels


@dataclass(frozen=True)
class Largest:
    """Of each of the labels, all but the largest part becomes background; of equal ones the first.

    Attributes
    ----------
    labels
        None: all.
    """

    labels: tuple[int, ...] = ()

    def __str__(self) -> str:
        return named("largest", labels=self.labels)

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> list[Removed]:
        """Do so to a label map in place."""
        parts = parts_of(labels_XYZ)
        gone = parts.of(self.labels)
        for label in np.unique(parts.label[gone]):
            places = np.flatnonzero(parts.label == label)
            gone[places[np.argmax(parts.voxels[places])]] = False
        return remove(labels_XYZ, parts, gone, str(self), voxel_ml)


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> Largest:
    if len(arguments) > 1:
        raise ValueError("more than labels behind it")
    return Largest(numbers.read(arguments[0]) if arguments else ())


STEP = StepKind("largest or largest:LABELS", _read)
