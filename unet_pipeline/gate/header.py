"""What one header says of itself: whether a volume may be used before a voxel is read.

Pure: it sees a parsed header, never a file.
"""

from collections.abc import Iterator

import numpy as np

from unet_pipeline.gate.alignment import mm, residual_mm
from unet_pipeline.gate.findings import Finding, Tolerance
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.nifti_header import NiftiHeader

_SINGULAR = 1e-6  # of the volume of a voxel with axes at right angles
_PIXDIM_SHARE = 1e-3  # by which pixdim and sform may differ
_UNIT_NAMES = {"m": "metres", "um": "micrometres"}


def check_header(header: NiftiHeader, role: str, tolerance: Tolerance) -> list[Finding]:
    """Check one header: affine, spacing, shear, the forms, pixdim and unit.

    Codes that fail: ``affine_not_finite``, ``affine_singular``, ``spacing_implausible``,
    ``forms_conflict`` (of forms that claim one space). Codes that warn: ``axes_sheared``,
    ``forms_conflict`` (of forms of different spaces), ``no_form``, ``qform_invalid``,
    ``pixdim_conflict``, ``unit_doubtful``. Remarks: ``qform_only``, ``unit_unknown``.
    """
    broken = _broken(header.grid, role)
    if broken is not None:
        return [broken]
    return [
        *_spacing(header, role, tolerance),
        *_shear(header.grid, role, tolerance),
        *_forms(header, role, tolerance),
        *_pixdim(header, role),
        *_unit(header, role),
    ]


def _broken(grid: VoxelGrid, role: str) -> Finding | None:
    if not np.isfinite(grid.affine).all():
        return Finding(
            "affine_not_finite",
            "fail",
            f"{role} affine with infinite or undefined numbers",
            "finite numbers",
            "Write the file again with a valid sform or qform",
            role,
        )
    spacing = grid.spacing_mm
    volume = abs(float(np.linalg.det(grid.affine[:3, :3])))
    if min(spacing) == 0 or volume < _SINGULAR * float(np.prod(spacing)):
        return Finding(
            "affine_singular",
            "fail",
            f"{role} affine that maps the volume to a plane, a line or a point "
            f"(spacing {mm(spacing)})",
            "three axes that span space",
            "Write the file again with a valid sform or qform",
            role,
        )
    return None


def _spacing(header: NiftiHeader, role: str, tolerance: Tolerance) -> Iterator[Finding]:
    grid, (low, high) = header.grid, tolerance.spacing_mm
    longest = max(n * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True))
    slices = [s for n, s in zip(grid.shape, grid.spacing_mm, strict=True) if n > 1]
    if min(grid.spacing_mm) >= low and max(slices, default=low) <= high:
        if longest <= tolerance.extent_mm:
            return
        found = f"{role} {longest:,.5g} mm long"
    else:
        found = f"{role} voxels of {mm(grid.spacing_mm)}"
    yield Finding(
        "spacing_implausible",
        "fail",
        found + _mixed_up(grid, tolerance),
        f"voxels of {low:g} to {high:g} mm and at most {tolerance.extent_mm:,.0f} mm of body",
        "Write the affine in millimetres",
        role,
    )


def _mixed_up(grid: VoxelGrid, tolerance: Tolerance) -> str:
    """Say which other unit would make the spacing plausible."""
    low, high = tolerance.spacing_mm
    for factor, unit in ((1e-3, "micrometres"), (1e3, "metres")):
        spacing = [factor * s for s in grid.spacing_mm]
        if low <= min(spacing) and max(spacing) <= high:
            return f", as if {unit} were written as millimetres"
    return ""


def _shear(grid: VoxelGrid, role: str, tolerance: Tolerance) -> Iterator[Finding]:
    unit = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    cosine = np.abs(unit.T @ unit - np.eye(3)).max()
    degrees = float(np.degrees(np.arcsin(min(float(cosine), 1.0))))
    if degrees > tolerance.shear_degrees:
        yield Finding(
            "axes_sheared",
            "warn",
            f"{role} axes {degrees:.3g} degrees off a right angle, as of a tilted gantry",
            f"at most {tolerance.shear_degrees:g} degrees",
            "Resample the volume to a grid with axes at right angles: the network sees it skewed",
            role,
        )


def _forms(header: NiftiHeader, role: str, tolerance: Tolerance) -> Iterator[Finding]:
    forms, shape = header.forms, header.grid.shape
    if forms.used is None:
        yield Finding(
            "no_form",
            "warn",
            f"{role} without qform and sform: its place in the world is not known",
            "a qform or an sform with a code above 0",
            "Write the file again with the affine of the scanner",
            role,
        )
    if forms.qform_code > 0 and forms.qform is None:
        yield Finding(
            "qform_invalid",
            "warn",
            f"{role} qform whose quaternion is no rotation",
            "a quaternion of length 1",
            "Write the file again; tools that read the qform will refuse it or misplace it",
            role,
        )
    if forms.qform_code > 0 and forms.sform_code <= 0:
        yield Finding(
            "qform_only", "pass", f"{role} with a qform only", "a qform or an sform",
            "Nothing to do", role,
        )  # fmt: skip
    if forms.qform is None or forms.sform is None:
        return
    q, s = VoxelGrid.of(shape, forms.qform), VoxelGrid.of(shape, forms.sform)
    residual, allowed = residual_mm(q, s), tolerance.forms_voxels * min(header.grid.spacing_mm)
    if residual <= allowed:
        return
    one_space = forms.qform_code == forms.sform_code
    yield Finding(
        "forms_conflict",
        "fail" if one_space else "warn",
        f"{role} qform (code {forms.qform_code}) and sform (code {forms.sform_code}) up to "
        f"{residual:.3g} mm apart",
        f"at most {allowed:.3g} mm, as tools differ in which one they read; this one reads "
        "the sform",
        "Say which one is right (--remedies sform or --remedies qform)",
        role,
        residual,
        allowed,
        "sform",
    )


def _pixdim(header: NiftiHeader, role: str) -> Iterator[Finding]:
    pixdim, spacing = np.array(header.forms.pixdim_mm), np.array(header.grid.spacing_mm)
    if np.isfinite(pixdim).all() and (np.abs(pixdim - spacing) <= _PIXDIM_SHARE * spacing).all():
        return
    yield Finding(
        "pixdim_conflict",
        "warn",
        f"{role} voxel sizes (pixdim) of {mm(header.forms.pixdim_mm)}",
        f"{mm(header.grid.spacing_mm)}, as the affine says",
        "Write the file again: some tools take their spacing from pixdim",
        role,
    )


def _unit(header: NiftiHeader, role: str) -> Iterator[Finding]:
    unit = header.forms.unit
    if unit == "unknown":
        yield Finding(
            "unit_unknown", "pass", f"{role} without a unit of length", "millimetres",
            "Nothing to do: millimetres are taken", role,
        )  # fmt: skip
    elif unit != "mm":
        yield Finding(
            "unit_doubtful",
            "warn",
            f"{role} said to be in {_UNIT_NAMES[unit]}, with voxels of "
            f"{mm(header.grid.spacing_mm).removesuffix(' mm')}",
            "millimetres, which every reader takes them for",
            "Write the file again with the unit mm, and the affine in mm",
            role,
        )
