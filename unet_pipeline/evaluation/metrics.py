"""Overlap of a label map with a reference mask."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def dice_per_label(
    prediction_XYZ: NDArray[Any], reference_XYZ: NDArray[Any], labels: Iterable[int]
) -> dict[int, float | None]:
    """Return the Dice coefficient of each label, 2 |P and R| / (|P| + |R|).

    Parameters
    ----------
    prediction_XYZ, reference_XYZ
        Label maps on one grid.
    labels
        Labels to score.

    Returns
    -------
    dict
        Label -> Dice between 0 and 1, or None where the label is absent from both.

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
    return {label: _dice(prediction_XYZ == label, reference_XYZ == label) for label in labels}


def mean_dice(dice: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none."""
    values = [value for value in dice if value is not None]
    return float(np.mean(values)) if values else None


def _dice(predicted: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float | None:
    both = int(np.count_nonzero(predicted)) + int(np.count_nonzero(wanted))
    np.logical_and(predicted, wanted, out=predicted)
    return 2 * int(np.count_nonzero(predicted)) / both if both else None
