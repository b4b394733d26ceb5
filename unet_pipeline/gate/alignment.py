"""The geometry gate: it says whether an image may be segmented, and a mask lies on it.

Pure: it sees grids, never files or voxels. Each finding has a reason code, the measured residual
in mm and what to do about it. A finding of severity ``fail`` quarantines the case.
"""

from collections.abc import Sequence

import numpy as np

from unet_pipeline.gate.findings import Finding, Tolerance
from unet_pipeline.volume.grid import VoxelGrid


def check_grid(grid: VoxelGrid, role: str) -> list[Finding]:
    """Check that an affine can be used at all: finite, invertible, plausible spacing."""
    if not np.isfinite(grid.affine).all():
        return [
            Finding(
                "affine_not_finite",
                "fail",
                f"a {role} affine with infinite or undefined numbers",
                "finite numbers",
                "Write the file again with a valid sform or qform",
            )
        ]
    spacing = grid.spacing_mm
    determinant = abs(float(np.linalg.det(grid.affine[:3, :3])))
    if min(spacing) == 0 or determinant < 1e-6 * float(np.prod(spacing)):
        return [
            Finding(
                "affine_singular",
                "fail",
                f"a {role} affine that maps the volume to a plane or a line "
                f"(spacing {_mm(spacing)})",
                "three axes that span space",
                "Write the file again with a valid sform or qform",
            )
        ]
    return []


def check_same_grid(
    first: VoxelGrid, second: VoxelGrid, tolerance: Tolerance, *, first_role: str, second_role: str
) -> list[Finding]:
    """Check that two volumes of one case lie on one grid.

    The affine residual is the largest distance, in mm, that any corner voxel of the volume moves
    between the two affines: for an affine map no voxel moves further than the corners.
    """
    if first.shape != second.shape:
        return [
            Finding(
                "shape_mismatch",
                "fail",
                f"{second_role} of {_by(second.shape)} voxels",
                f"{_by(first.shape)}, as the {first_role}",
                f"Resample the {second_role} to the grid of the {first_role}",
            )
        ]
    residual = residual_mm(first, second)
    allowed = tolerance.affine_voxels * min(first.spacing_mm)
    if residual > allowed:
        return [
            Finding(
                "affine_mismatch",
                "fail",
                f"{second_role} displaced by up to {residual:.3g} mm from the {first_role}",
                f"at most {allowed:.3g} mm",
                f"Correct the affine of the {second_role}, or resample it to the {first_role}",
                residual_mm=residual,
                tolerance_mm=allowed,
            )
        ]
    return []


def residual_mm(first: VoxelGrid, second: VoxelGrid) -> float:
    """Return the largest distance of corresponding corner voxels, in mm."""
    return float(np.linalg.norm(first.corners_mm - second.corners_mm, axis=1).max())


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _mm(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values) + " mm"
