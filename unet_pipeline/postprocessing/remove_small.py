"""Remove parts of labels that are too small to be meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unet_pipeline.postprocessing.parts import FULL, Connectivity, parts_of, remove
from unet_pipeline.postprocessing.protocol import LabelNumbers, StepKind, named
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels

Unit = Literal["ml", "voxels"]
_SIZE = re.compile(r"(?P<size>\d{1,9}(\.\d{1,9})?)\s?(?P<unit>ml|voxels)")
_ROUNDING = 1e-9  # relative: a part of exactly the size stays


@dataclass(frozen=True)
class RemoveSmall:
    """Parts of the labels that are smaller than ``least`` become background.

    Attributes
    ----------
    labels
        None: all.
    """

    least: float
    unit: Unit = "ml"
    labels: tuple[int, ...] = ()
    connectivity: Connectivity = FULL

    def __str__(self) -> str:
        options = {f"{self.connectivity} neighbours": self.connectivity != FULL}
        size = f"{self.least:.10g}{self.unit}"
        return named("remove-small", size, labels=self.labels, options=options)

    def leaves(self, labels: frozenset[int]) -> frozenset[int]:
        """Return all of them."""
        return labels

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> list[LabelChange]:
        """Do so to a label map in place."""
        parts = parts_of(labels_XYZ, self.labels, self.connectivity)
        sizes = parts.voxels * (voxel_ml if self.unit == "ml" else 1)
        gone = (parts.group > 0) & (sizes < self.least * (1 - _ROUNDING))
        return remove(labels_XYZ, parts, gone, self, voxel_ml)


def _read(arguments: Sequence[str], numbers: LabelNumbers) -> RemoveSmall:
    size, *labels = arguments or ("",)
    found = _SIZE.fullmatch(size)
    if found is None or not float(found["size"]):
        raise ValueError(f"a size {size!r}")
    if len(labels) > 1:
        raise ValueError("more than labels behind the size")
    unit: Unit = "ml" if found["unit"] == "ml" else "voxels"
    return RemoveSmall(float(found["size"]), unit, numbers.read(labels[0]) if labels else ())


STEP = StepKind("remove-small:SIZE or remove-small:SIZE:LABELS, SIZE as 0.5ml or 64voxels", _read)
