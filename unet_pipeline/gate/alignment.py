"""Whether two volumes of one case lie on one grid; and if not, in what way they differ.

Pure: it sees grids, never files or voxels. The residual is the largest distance, in mm, that any
corner voxel of the volume moves between the two affines: for an affine map no voxel moves further
than the corners. What the difference is made of is told apart by the polar decomposition of the
two affines: spacing, shear, direction (a rotation, or a mirror image) and origin.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.gate.findings import Finding, Fix, Tolerance
from unet_pipeline.volume.grid import AXIS_LETTERS, Float, Orientation, VoxelGrid
from unet_pipeline.volume.regrid import reordering


@dataclass(frozen=True)
class Roles:
    """What the two volumes are called in sentences: ``mask`` against ``image``."""

    first: str
    second: str

    @property
    def resampling(self) -> Fix:
        """The fix that brings the second volume onto the grid of the first."""
        return "resample-mask" if self.second == "mask" else "resample-channels"


def check_same_grid(
    first: VoxelGrid, second: VoxelGrid, tolerance: Tolerance, roles: Roles
) -> list[Finding]:
    """Check that two volumes of one case lie on one grid; all findings are of the second.

    Codes: ``axes_reordered`` (the same voxels in another storage order), ``shape_mismatch``,
    ``handedness_mismatch``, ``shear_mismatch``, ``spacing_mismatch``, ``direction_mismatch``,
    ``origin_mismatch``, and ``affine_mismatch`` for a difference that is none of these alone.
    """
    allowed = allowed_mm(first, tolerance)
    if first.shape == second.shape and residual_mm(first, second) <= allowed:
        return []
    order = reordering(second, first, allowed)
    if order is not None:
        return [_reordered(first, second, order, roles)]
    if first.shape != second.shape:
        return [_shape(first, second, roles)]
    residual = residual_mm(first, second)
    causes = list(_causes(first, second, allowed)) or [
        ("affine_mismatch", "another affine", "one affine")
    ]
    return [
        Finding(
            code,
            "fail",
            f"{roles.second} with {found}, displaced by up to {residual:.3g} mm",
            f"{wanted}, at most {allowed:.3g} mm from the {roles.first}",
            f"Correct the affine of the {roles.second}; or, if its position in the world is right, "
            f"resample it (--remedies {roles.resampling})",
            roles.second,
            residual,
            allowed,
            roles.resampling,
        )
        for code, found, wanted in causes
    ]


def allowed_mm(grid: VoxelGrid, tolerance: Tolerance) -> float:
    """Return how far a second volume of the case may be displaced, in mm."""
    return tolerance.affine_voxels * min(grid.spacing_mm)


def residual_mm(first: VoxelGrid, second: VoxelGrid) -> float:
    """Return the largest distance of corresponding corner voxels, in mm."""
    return float(np.linalg.norm(first.corners_mm - second.corners_mm, axis=1).max())


def by(shape: Sequence[int]) -> str:
    """Return a shape for people: ``40 x 50 x 60``."""
    return " x ".join(map(str, shape))


def mm(values: Iterable[float]) -> str:
    """Return lengths for people: ``1 x 1 x 2.5 mm``."""
    return " x ".join(f"{value:.4g}" for value in values) + " mm"


def _reordered(first: VoxelGrid, second: VoxelGrid, order: Orientation, roles: Roles) -> Finding:
    flips = [axis + 1 for axis, flip in zip(order.source_axes, order.flips, strict=True) if flip]
    ways = []
    if order.source_axes != (0, 1, 2):
        ways.append(f"its axes in the order {by([a + 1 for a in order.source_axes])}")
    if flips:
        ways.append(f"axis {' and '.join(map(str, sorted(flips)))} reversed")
    return Finding(
        "axes_reordered",
        "fail",
        f"{roles.second} stored as {second.axcodes}, with {' and '.join(ways)}; it covers the same "
        "box of the world",
        f"{first.axcodes}, as the {roles.first}",
        f"Reorient the {roles.second}, which loses nothing (--remedies reorient)",
        roles.second,
        0.0,
        fix="reorient",
    )


def _shape(first: VoxelGrid, second: VoxelGrid, roles: Roles) -> Finding:
    return Finding(
        "shape_mismatch",
        "fail",
        f"{roles.second} of {by(second.shape)} voxels of {mm(second.spacing_mm)}",
        f"{by(first.shape)} voxels of {mm(first.spacing_mm)}, as the {roles.first}",
        f"Resample the {roles.second} to the grid of the {roles.first} "
        f"(--remedies {roles.resampling})",
        roles.second,
        fix=roles.resampling,
    )


def _causes(first: VoxelGrid, second: VoxelGrid, allowed: float) -> Iterator[tuple[str, str, str]]:
    """Yield code, found and wanted of each way in which two grids of one shape differ."""
    one, two = _Parts.of(first), _Parts.of(second)
    extent = (np.array(first.shape) - 1) * one.spacing
    steps = np.array(first.shape) - 1
    if one.mirrored != two.mirrored:
        yield (
            "handedness_mismatch",
            f"axes {second.axcodes}, a mirror image of {first.axcodes}",
            "axes of one handedness",
        )
    sheared = bool((np.abs(two.gram - one.gram) * extent).max() > allowed)
    if sheared:
        yield (
            "shear_mismatch",
            f"axes {_degrees_off(two.gram):.2f} degrees off a right angle",
            f"{_degrees_off(one.gram):.2f} degrees",
        )
    by_shear = one.spacing * (1 / np.cos(np.radians(_degrees_off(two.gram))) - 1) if sheared else 0
    if ((np.abs(two.spacing - one.spacing) - by_shear) * steps).max() > allowed:
        yield "spacing_mismatch", _spacing(one.spacing, two.spacing), mm(one.spacing)
    turned = two.rotation @ one.rotation.T
    displaced = np.linalg.norm((turned - np.eye(3)) @ one.rotation, axis=0) * extent
    if one.mirrored == two.mirrored and not sheared and displaced.max() > allowed:
        yield (
            "direction_mismatch",
            _turn(first, second, turned),
            f"axes {first.axcodes}, not turned",
        )
    shift = second.affine[:3, 3] - first.affine[:3, 3]
    centre = _centre(second) - _centre(first)
    if min(np.linalg.norm(shift), np.linalg.norm(centre)) > allowed:
        yield "origin_mismatch", f"its first voxel at an offset of {_offset(shift)}", "one origin"


@dataclass(frozen=True)
class _Parts:
    """An affine taken apart; ``gram`` holds the cosines of the angles between axes."""

    spacing: Float
    rotation: Float
    gram: Float
    mirrored: bool

    @classmethod
    def of(cls, grid: VoxelGrid) -> "_Parts":
        spacing = np.array(grid.spacing_mm)
        unit = grid.affine[:3, :3] / spacing
        left, _, right = np.linalg.svd(unit)
        return cls(spacing, left @ right, unit.T @ unit, bool(np.linalg.det(unit) < 0))


def _degrees_off(gram: Float) -> float:
    """Return how far the two axes that are furthest from a right angle are from it."""
    cosine = np.abs(gram - np.diag(np.diag(gram))).max()
    return float(np.degrees(np.arcsin(min(cosine, 1.0))))


def _spacing(wanted: Float, found: Float) -> str:
    ratios = found / wanted
    if np.allclose(ratios, ratios[0], rtol=1e-3) and abs(ratios[0] - 1) > 1e-3:
        return f"voxels of {mm(found)}, {ratios[0]:.4g} times as large"
    return f"voxels of {mm(found)}"


def _turn(first: VoxelGrid, second: VoxelGrid, turned: Float) -> str:
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1))))
    axes = "axes" if first.axcodes == second.axcodes else f"axes {second.axcodes}"
    return f"{axes} turned by {degrees:.3g} degrees"


def _offset(shift_mm: Float) -> str:
    """Say an offset in the directions of the patient: ``3 mm to R, 1 mm to I``."""
    return ", ".join(
        f"{abs(value):.3g} mm to {letters[1 if value > 0 else 0]}"
        for value, letters in zip(shift_mm, AXIS_LETTERS, strict=True)
        if abs(value) > 1e-3 * np.abs(shift_mm).max()
    )


def _centre(grid: VoxelGrid) -> Float:
    return grid.voxel_to_world_mm((np.array(grid.shape) - 1) / 2)
