"""Numbers about each label of a label map: ``STATISTICS`` has a line for each.

They are in the record of a case under ``statistics``, and in the run's ``statistics.csv`` with a
column each, by what is called here so; nothing else knows which there are.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.kernels import count_labels


@dataclass(frozen=True)
class Labelled:
    """A label map and where it lies.

    Attributes
    ----------
    voxels
        Of each label, from 0.
    """

    labels_XYZ: NDArray[Any]
    grid: VoxelGrid
    voxels: NDArray[np.int64]


STATISTICS: Mapping[str, Callable[[Labelled, int], float]] = {
    "voxels": lambda labelled, label: int(labelled.voxels[label]),
    "volume_ml": lambda labelled, label: int(labelled.voxels[label]) * labelled.grid.voxel_ml,
}


def label_statistics(
    labels_XYZ: NDArray[Any], grid: VoxelGrid, labels: Iterable[int]
) -> dict[str, dict[str, float]]:
    """Return the statistics of each label by its number as text; those of one that is absent, too.

    Parameters
    ----------
    labels_XYZ
        Integers, 0 or more, on ``grid``.
    labels
        Those that are asked about.
    """
    wanted = list(labels)
    voxels = np.zeros(max(wanted, default=0) + 1, np.int64)
    order = "F" if labels_XYZ.flags.f_contiguous else "C"
    count_labels(labels_XYZ.ravel(order), voxels)  # type: ignore[arg-type]
    labelled = Labelled(labels_XYZ, grid, voxels)
    return {
        str(label): {name: round(of(labelled, label), 6) for name, of in STATISTICS.items()}
        for label in wanted
    }
