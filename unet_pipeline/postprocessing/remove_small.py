"""Remove parts of labels that are too small to be meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from unet_pipeline.postprocessing.parts import parts_of, remove
from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.storage.sidecar import Removed
from unet_pipeline.tiling.decision import Labels

_ML = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s?ml")
_ROUNDING = 1e-9  # relative: a part of exactly the size stays


@dataclass(frozen=True)
class RemoveSmall:
    """Parts of the labels that have less than ``least_ml`` become background.

    Attributes
    ----------
    labels
        None: all.
    """

    least_ml: float
    labels: tuple[int, ...] = ()

    def __str__(self) -> str:
        return named("remove-small", f"{self.least_ml:.10g}ml", labels=self.labels)

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> list[Removed]:
        """Do so to a label map in place."""
        parts = parts_of(labels_XYZ)
        small = parts.voxels * voxel_ml < self.least_ml * (1 - _ROUNDING)
        return remove(labels_XYZ, parts, parts.of(self.labels) & small, str(self), voxel_ml)


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> RemoveSmall:
    size, *labels = arguments or ("",)
    found = _ML.fullmatch(size)
    if found is None or not float(found[1]) or len(labels) > 1:
        raise ValueError(f"a size {size!r}" if found is None else "no size, or more than labels")
    return RemoveSmall(float(found[1]), numbers.read(labels[0]) if labels else ())


STEP = StepKind("remove-small:SIZEml or remove-small:SIZEml:LABELS", _read)
