"""Whether two label maps agree, and how close to ties the voxels are where they do not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


@dataclass(frozen=True)
class Agreement:
    """What two label maps of one case have in common.

    Attributes
    ----------
    reference
        Whose label map this one is held against: ``peer``, or our ``first row``.
    differing
        Share of voxels that differ.
    margin_median, margin_largest
        Difference of the two highest scores on voxels that differ, in the peer's own scores; None
        where no voxel differs, or where they were not to be had.
    margin_of_all
        Median of that difference over all voxels.
    """

    reference: str
    differing: float
    margin_median: float | None = None
    margin_largest: float | None = None
    margin_of_all: float | None = None


def compare(
    found: Path, wanted: Path, reference: str, margins_XYZ: np.ndarray[Any, Any] | None
) -> Agreement:
    """Compare two label maps of one grid.

    Raises
    ------
    ValueError
        If their shapes or affines differ.
    """
    ours, theirs = nib.load(found), nib.load(wanted)
    if ours.shape != theirs.shape or not np.allclose(ours.affine, theirs.affine, atol=1e-3):
        raise ValueError(f"label maps on two grids: {ours.shape} and {theirs.shape}")
    differs_XYZ = np.asarray(ours.dataobj) != np.asarray(theirs.dataobj)
    share = float(differs_XYZ.mean())
    if margins_XYZ is None or not differs_XYZ.any():
        return Agreement(reference, share)
    there = margins_XYZ[differs_XYZ]
    median, largest = float(np.median(there)), float(there.max())
    return Agreement(reference, share, median, largest, float(np.median(margins_XYZ)))
