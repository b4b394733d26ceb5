"""What one header says of itself: whether a volume may be used before a voxel is read.

Pure: it sees a parsed header, never a file.
"""

from collections.abc import Iterator

import numpy as np

from unet_pipeline.gate.alignment import mm, residual_mm
from unet_pipeline.gate.findings import Finding, Tolerance
from unet_pipeline.volume.forms import Forms
from unet_pipeline.volume.grid import FARTHEST_MM, VoxelGrid
from unet_pipeline.volume.header import Header

_SINGULAR = 1e-6  # of the volume of a voxel with axes at right angles
_MOST_TILT_DEGREES = 45.0
_PIXDIM_SHARE = 1e-3  # by which pixdim and sform may differ
_UNIT_NAMES = {"m": "metres", "um": "micrometres"}


def check_header(header: Header, role: str, tolerance: Tolerance) -> list[Finding]:
    """Check one header: affine, spacing, shear, the forms, pixdim and unit.

    Codes that fail: ``affine_not_finite``, ``affine_out_of_range``, ``affine_singular``,
    ``spacing_implausible``, ``axes_sheared`` (by more than gantries tilt), ``shear_lost``,
    ``forms_conflict`` (of forms that claim one space). Codes that warn: ``forms_conflict`` (of
    forms of different spaces), ``no_form``, ``qform_invalid``, ``pixdim_conflict``,
    ``unit_doubtful``. Remarks: ``axes_sheared``, ``qform_only``, ``unit_unknown``,
    ``header_repaired``.
    """
    broken = _broken(header.grid, role)
    if broken is not None:
        return [broken]
    return [
        *_repairs(header, role),
        *_remarks(header, role),
        *_other_form(header, role),
        *_spacing(header, role, tolerance),
        *_shear(header, role),
        *(_of_forms(header, header.forms, role, tolerance) if header.forms else ()),
    ]


def _of_forms(header: Header, forms: Forms, role: str, tolerance: Tolerance) -> Iterator[Finding]:
    """Check what a NIfTI header says of a volume's place more than once."""
    yield from _conflict(header, forms, role, tolerance)
    yield from _pixdim(header, forms, role)
    yield from _unit(header, forms, role)


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
    if not grid.is_a_place:
        return Finding(
            "affine_out_of_range",
            "fail",
            f"{role} affine with numbers of up to {np.abs(grid.affine).max():.3g} mm",
            f"a volume within {FARTHEST_MM:,.0f} mm of the world's origin",
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


def _repairs(header: Header, role: str) -> Iterator[Finding]:
    if header.repairs:
        yield Finding(
            "header_repaired", "pass", f"{role} with {'; '.join(header.repairs)}",
            "what the NIfTI standard allows",
            "Nothing to do: it is read as most readers of this field read it", role,
        )  # fmt: skip


def _remarks(header: Header, role: str) -> Iterator[Finding]:
    for one in header.remarks:
        found, done = f"{role} {one.found}", f"Nothing to do: {one.read}"
        yield Finding(one.code, "pass", found, one.wanted, done, role)


def _other_form(header: Header, role: str) -> Iterator[Finding]:
    """Fail the form that is not followed, where it is no place at all."""
    forms = header.forms
    for name, rows in (("sform", forms.sform), ("qform", forms.qform)) if forms else ():
        if rows is None or VoxelGrid.of(header.grid.shape, rows).is_a_place:
            continue
        yield Finding(
            "affine_not_finite",
            "fail",
            f"{role} {name} with infinite, undefined or huge numbers",
            "finite numbers in both forms, as tools differ in which one they read",
            f"Take the other form (--remedies {'qform' if name == 'sform' else 'sform'})",
            role,
            fix="sform",
        )


def _spacing(header: Header, role: str, tolerance: Tolerance) -> Iterator[Finding]:
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


def _shear(header: Header, role: str) -> Iterator[Finding]:
    """Say what becomes of a sheared volume; ``VoxelGrid.is_sheared`` decides, as in a run."""
    grid, sform = header.grid, header.forms.sform if header.forms else None
    degrees = float(np.degrees(np.arcsin(grid.shear)))
    if degrees > _MOST_TILT_DEGREES:
        yield Finding(
            "axes_sheared",
            "fail",
            f"{role} axes {degrees:.3g} degrees off a right angle",
            f"at most {_MOST_TILT_DEGREES:g} degrees; gantries tilt by 30",
            "Write the file again with a valid sform",
            role,
        )
    elif grid.is_sheared:
        yield Finding(
            "axes_sheared",
            "pass",
            f"{role} axes {degrees:.3g} degrees off a right angle, as of a tilted gantry",
            "axes at right angles",
            "Nothing to do: the network sees it resampled to right angles, and labels come back to "
            "the voxels of the file",
            role,
        )
    elif sform is not None and _is_sheared(VoxelGrid.of(grid.shape, sform)):
        yield Finding(
            "shear_lost",
            "fail",
            f"{role} sform with axes off right angles, as of a tilted gantry, and a qform taken in "
            "its place",
            "the sform: a qform cannot hold shear, so voxels would be misplaced",
            "Leave --remedies qform out",
            role,
        )


def _is_sheared(grid: VoxelGrid) -> bool:
    return grid.is_a_place and min(grid.spacing_mm) > 0 and grid.is_sheared


def _conflict(header: Header, forms: Forms, role: str, tolerance: Tolerance) -> Iterator[Finding]:
    shape = header.grid.shape
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
    if not (q.is_a_place and s.is_a_place):
        return
    residual, allowed = residual_mm(q, s), tolerance.forms_voxels * min(header.grid.spacing_mm)
    if residual <= allowed or (_is_sheared(s) and _is_all_but_shear(q, s, allowed)):
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


def _is_all_but_shear(qform: VoxelGrid, sform: VoxelGrid, allowed_mm: float) -> bool:
    """Say whether a qform differs from a sheared sform by no more than its shear explains.

    What a writer makes of it differs: the nearest rotation (nibabel), or the directions of rows,
    columns and their normal (dcm2niix). Both leave the first voxel where it is.
    """
    shift = np.linalg.norm(qform.affine[:3, 3] - sform.affine[:3, 3])
    lengths = np.linalg.norm(qform.affine[:3, :3] - sform.affine[:3, :3], axis=0)
    turned = float((lengths / np.array(sform.spacing_mm)).max())
    return bool(shift <= allowed_mm and turned <= 2 * sform.shear)


def _pixdim(header: Header, forms: Forms, role: str) -> Iterator[Finding]:
    pixdim, spacing = np.array(forms.pixdim_mm), np.array(header.grid.spacing_mm)
    heights = spacing * np.sqrt(1 - header.grid.shear**2)  # of slices that are stacked aslant
    low, high = (1 - _PIXDIM_SHARE) * heights, (1 + _PIXDIM_SHARE) * spacing
    if ((low <= pixdim) & (pixdim <= high)).all():
        return
    yield Finding(
        "pixdim_conflict",
        "warn",
        f"{role} voxel sizes (pixdim) of {mm(forms.pixdim_mm)}",
        f"{mm(header.grid.spacing_mm)}, as the affine says",
        "Write the file again: some tools take their spacing from pixdim",
        role,
    )


def _unit(header: Header, forms: Forms, role: str) -> Iterator[Finding]:
    unit = forms.unit
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
            "millimetres, which nibabel and niftilib take them for (ITK scales by the unit)",
            "Write the file again with the unit mm, and the affine in mm",
            role,
        )
