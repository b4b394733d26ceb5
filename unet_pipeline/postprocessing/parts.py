"""Connected parts of the labels of a map."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import cc3d
import numpy as np
import numpy.typing as npt

from unet_pipeline.storage.sidecar import Removed
from unet_pipeline.tiling.compiling import compiled
from unet_pipeline.tiling.decision import Labels

CONNECTIVITY: Final = 26  # voxels that share a face, an edge or a corner are one part


@dataclass(frozen=True)
class Parts:
    """The connected parts of a label map; number 0 is background.

    Attributes
    ----------
    numbers_XYZ
        The part of each voxel.
    label
        Of each part.
    voxels
        Of each part.
    """

    numbers_XYZ: npt.NDArray[np.unsignedinteger]
    label: npt.NDArray[np.int64]
    voxels: npt.NDArray[np.int64]

    def of(self, labels: Collection[int]) -> npt.NDArray[np.bool_]:
        """Return which parts have one of the labels; of none, which are no background."""
        return np.isin(self.label, list(labels)) if labels else self.label > 0


def parts_of(labels_XYZ: Labels) -> Parts:
    """Find the connected parts of each label.

    Parts are numbered in the order in which a file has their first voxels.
    """
    in_order = np.asfortranarray(labels_XYZ)
    numbers_XYZ, count = cc3d.connected_components(
        in_order, connectivity=CONNECTIVITY, return_N=True
    )
    label, voxels = np.zeros((2, count + 1), np.int64)
    _count(numbers_XYZ.ravel("F"), in_order.ravel("F"), label, voxels)
    return Parts(numbers_XYZ, label, voxels)


def remove(
    labels_XYZ: Labels, parts: Parts, gone: npt.NDArray[np.bool_], step: str, voxel_ml: float
) -> list[Removed]:
    """Make background of parts, and say for each label how much that was.

    Parameters
    ----------
    labels_XYZ
        The map that ``parts`` are of, the first axis innermost.
    """
    if not labels_XYZ.flags.f_contiguous:
        raise ValueError("the first axis of a label map must be innermost")
    if gone.any():
        _clear(labels_XYZ.ravel("F"), parts.numbers_XYZ.ravel("F"), gone)
    found = []
    for label in np.unique(parts.label[gone]).tolist():
        of_label = gone & (parts.label == label)
        voxels = int(parts.voxels[of_label].sum())
        ml = round(voxels * voxel_ml, 6)
        found.append(Removed(step, int(label), int(of_label.sum()), voxels, ml))
    return found


@compiled
def _count(numbers: Any, labels: Any, label: Any, voxels: Any) -> None:
    """Fill in the label and the voxels of each part, from flat arrays of all voxels."""
    for i in range(numbers.size):
        label[numbers[i]] = labels[i]
        voxels[numbers[i]] += 1


@compiled
def _clear(labels: Any, numbers: Any, gone: Any) -> None:
    """Make background of the voxels of parts, in flat arrays of all voxels."""
    for i in range(numbers.size):
        if gone[numbers[i]]:
            labels[i] = 0
