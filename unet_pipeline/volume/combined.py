"""Label maps of several models, painted over each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.decision import Labels

_SLAB = 32  # planes that are painted together


@dataclass(frozen=True)
class CombinedPart:
    """What one model gives to a combined label map.

    Attributes
    ----------
    numbers
        The combined label of each of its labels.
    label_map
        URL of its label map of the case; empty as long as no case is named.
    """

    model: str
    numbers: dict[int, int]
    label_map: str = ""


def combined_labels(
    label_maps_XYZ: Sequence[npt.NDArray[np.integer]],
    parts: Sequence[CombinedPart],
    label_type: npt.DTypeLike,
) -> Labels:
    """Paint label maps over each other, the last one first.

    Parameters
    ----------
    label_maps_XYZ
        One for each part, of one shape. Labels that the part does not number are background.
    """
    shape = label_maps_XYZ[0].shape
    combined_XYZ: Labels = np.zeros(shape, label_type, order="F")
    for labels_XYZ, part in reversed(list(zip(label_maps_XYZ, parts, strict=True))):
        most = max(int(labels_XYZ.max(initial=0)), *part.numbers)
        table = np.zeros(most + 1, label_type)
        table[list(part.numbers)] = list(part.numbers.values())
        for first in range(0, shape[2], _SLAB):
            slab = (..., slice(first, first + _SLAB))
            painted = table[labels_XYZ[slab]]
            np.copyto(combined_XYZ[slab], painted, where=painted > 0)
    return combined_XYZ
