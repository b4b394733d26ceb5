"""Overlap of a label map with a reference mask."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.volume.disk_arrays import each_slab
from unet_pipeline.volume.kernels import count_pairs


def dice_per_label(
    prediction_XYZ: NDArray[Any], reference_XYZ: NDArray[Any], labels: Iterable[int]
) -> dict[int, float | None]:
    """Return the Dice coefficient of each label, 2 |P and R| / (|P| + |R|).

    Parameters
    ----------
    prediction_XYZ, reference_XYZ
        Label maps on one grid, integers.
    labels
        Labels to score, 0 or more.

    Returns
    -------
    dict
        Label -> Dice between 0 and 1, or None where the label is absent from both.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_shapes(prediction_XYZ, reference_XYZ)
    wanted = list(labels)
    both, sizes = _voxels(prediction_XYZ, reference_XYZ, max(wanted, default=0) + 1)
    return {k: 2 * int(both[k]) / int(sizes[k]) if sizes[k] else None for k in wanted}


def mean_dice(dice: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none."""
    values = [value for value in dice if value is not None]
    return float(np.mean(values)) if values else None


def _voxels(
    prediction_XYZ: NDArray[Any], reference_XYZ: NDArray[Any], labels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return per label |P and R| and |P| + |R|, from one pass over both maps."""
    both, only_first, only_second = np.zeros((3, labels), np.int64)
    for part in each_slab(prediction_XYZ, reference_XYZ):
        first, second = (a[..., part].ravel("F") for a in (prediction_XYZ, reference_XYZ))
        count_pairs(first, second, both, only_first, only_second)
    return both, 2 * both + only_first + only_second


def check_shapes(prediction_XYZ: NDArray[Any], reference_XYZ: NDArray[Any]) -> None:
    """Refuse two maps that are not on one grid.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if prediction_XYZ.shape != reference_XYZ.shape:
        raise ValueError(
            f"prediction {prediction_XYZ.shape} and reference {reference_XYZ.shape} "
            "must have one shape"
        )
