"""Keep the largest part of each label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.postprocessing.parts import FULL, Connectivity, parts_of, remove
from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels


@dataclass(frozen=True)
class Largest:
    """Of each of the labels, all but the largest parts become background.

    Attributes
    ----------
    labels
        None: all.
    together
        Whether they count as one, whose largest parts stay.
    count
        How many stay, of each; of equal ones those that a file has first.
    ties
        Whether all parts that are as large as the last of them stay, too.
    """

    labels: tuple[int, ...] = ()
    together: bool = False
    count: int = 1
    ties: bool = False
    connectivity: Connectivity = FULL

    def __str__(self) -> str:
        return named(
            "largest",
            labels=self.labels,
            options={
                "together": self.together,
                f"{self.count} parts": self.count > 1,
                "ties": self.ties,
                f"{self.connectivity} neighbours": self.connectivity != FULL,
            },
        )

    def leaves(self, labels: frozenset[int]) -> frozenset[int]:
        """Return all of them."""
        return labels

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> list[LabelChange]:
        """Do so to a label map in place."""
        parts = parts_of(labels_XYZ, self.labels, self.connectivity, together=self.together)
        gone = parts.group > 0
        for places in parts.groups:
            by_size = places[np.argsort(-parts.voxels[places], kind="stable")]
            gone[by_size[: self.count]] = False
            if self.ties:
                least = parts.voxels[by_size[: self.count][-1]]
                gone[places[parts.voxels[places] == least]] = False
        return remove(labels_XYZ, parts, gone, self, voxel_ml)


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> Largest:
    if len(arguments) > 1:
        raise ValueError("more than labels behind it")
    return Largest(numbers.read(arguments[0]) if arguments else ())


STEP = StepKind("largest or largest:LABELS", _read)
