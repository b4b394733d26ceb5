"""The grid that MONAI's ``Spacingd`` resamples to: where it begins and how many voxels it has.

These are the numbers of ``zoom_affine`` and ``compute_shape_offset`` of ``monai.data.utils``, to
the bit, without MONAI and torch: a gate that reads headers has no other use for them. A test holds
them against MONAI's own on grids of all kinds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
_SAME_CORNER = 1e-8  # voxels


def with_spacing(affine: Matrix, spacing_mm: Sequence[float]) -> Matrix:
    """Return an affine at right angles with the spacing, all over 0, that begins at the origin.

    Axes keep their directions as far as they are at right angles: those of a sheared grid are
    turned away from the axes before them.
    """
    columns = affine[:3, :3]
    upper = np.linalg.cholesky(columns.T @ columns).T
    turned = columns @ np.linalg.inv(upper)
    signed = np.sign(np.diag(upper)) * np.abs(np.array(spacing_mm, dtype=float))
    found = np.eye(4)
    found[:3, :3] = turned @ np.diag(signed)
    return found


def shape_and_origin(
    shape: Sequence[int], source: Matrix, target: Matrix
) -> tuple[tuple[int, ...], npt.NDArray[Any]]:
    """Return how many voxels of ``target`` cover a grid, and where the first lies, in mm.

    It lies on the corner of the grid that no other corner is before, on any axis of ``target``.
    Where rounding has tilted the axes, so that there is none, the centres coincide.
    """
    sizes = np.array(shape, dtype=float)
    ends = [(0.0, size - 1.0) for size in sizes]
    corners = np.asarray(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    corners = np.concatenate([corners, np.ones_like(corners[:1])])
    seen = np.linalg.solve(target, source) @ corners
    places_mm, seen_vox = source @ corners, seen[:3]
    counts = np.round(np.ptp(seen_vox / seen[3], axis=1) + 1.0)
    for index in range(corners.shape[1]):
        before = np.min(seen_vox - seen_vox[:, index : index + 1], axis=1)
        if np.all(np.abs(before) <= _SAME_CORNER):
            origin_mm = places_mm[:3, index]
            break
    else:
        middle_mm = source[:3, :3] @ (sizes / 2.0) + source[:3, 3]
        origin_mm = middle_mm - target[:3, :3] @ (counts / 2.0)
    return tuple(int(count) for count in counts), origin_mm
