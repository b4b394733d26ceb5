"""Connected parts of the labels of a map."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
import numpy.typing as npt

from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.compiling import compiled
from unet_pipeline.tiling.decision import Labels

Connectivity = Literal[6, 18, 26]
FULL: Connectivity = 26  # voxels that share a face, an edge or a corner are one part


@dataclass(frozen=True)
class Parts:
    """The connected parts of a map; number 0 is background.

    Attributes
    ----------
    numbers_XYZ
        The part of each voxel.
    group
        The label that each part was found as.
    voxels
        Of each part.
    """

    numbers_XYZ: npt.NDArray[np.unsignedinteger]
    group: npt.NDArray[np.int64]
    voxels: npt.NDArray[np.int64]

    @property
    def groups(self) -> list[npt.NDArray[np.intp]]:
        """The parts of each label, background left out."""
        return [np.flatnonzero(self.group == one) for one in np.unique(self.group[self.group > 0])]


def parts_of(
    labels_XYZ: Labels,
    labels: Iterable[int] = (),
    connectivity: Connectivity = FULL,
    *,
    together: bool = False,
) -> Parts:
    """Find the connected parts of each label.

    Parts are numbered in the order in which a file has their first voxels.

    Parameters
    ----------
    labels
        Those that are looked at. Default: all.
    together
        Whether they count as one.
    """
    in_order = np.asfortranarray(_grouped(labels_XYZ, list(labels), together))
    numbers_XYZ, count = cc3d.connected_components(
        in_order, connectivity=connectivity, return_N=True
    )
    group, voxels = np.zeros((2, count + 1), np.int64)
    _count(numbers_XYZ.ravel("F"), in_order.ravel("F"), group, voxels)
    return Parts(numbers_XYZ, group, voxels)


def remove(
    labels_XYZ: Labels, parts: Parts, gone: npt.NDArray[np.bool_], step: object, voxel_ml: float
) -> list[LabelChange]:
    """Make background of parts, and say for each label how much that was.

    Parameters
    ----------
    labels_XYZ
        The map that ``parts`` are of, the first axis innermost.
    """
    check_order(labels_XYZ)
    if not gone.any():
        return []
    values, numbers = labels_XYZ.ravel("F"), parts.numbers_XYZ.ravel("F")
    places = np.flatnonzero(gone[numbers])
    labels, voxels = np.unique(values[places], return_counts=True)
    each = np.unique(np.stack([values[places], numbers[places]]).astype(np.int64), axis=1)[0]
    values[places] = 0
    return [
        LabelChange.of(step, label, int((each == label).sum()), -count, voxel_ml)
        for label, count in zip(labels.tolist(), voxels.tolist(), strict=True)
    ]


def check_order(labels_XYZ: Labels) -> None:
    """Refuse a map that cannot be changed in place along memory."""
    if not labels_XYZ.flags.f_contiguous:
        raise ValueError("the first axis of a label map must be innermost")


def _grouped(labels_XYZ: Labels, labels: list[int], together: bool) -> Labels:
    """Return the map with those labels alone, or with 1 for all of them."""
    if not labels and not together:
        return labels_XYZ
    known = np.arange(int(labels_XYZ.max()) + 1)
    wanted = np.isin(known, labels) if labels else known > 0
    table = wanted.astype(labels_XYZ.dtype) if together else np.where(wanted, known, 0)
    grouped_XYZ: Labels = table.astype(labels_XYZ.dtype)[labels_XYZ]
    return grouped_XYZ


@compiled
def _count(numbers: Any, labels: Any, group: Any, voxels: Any) -> None:
    """Fill in the label and the voxels of each part, from flat arrays of all voxels."""
    for i in range(numbers.size):
        group[numbers[i]] = labels[i]
        voxels[numbers[i]] += 1
