"""Fields of a header that the NIfTI standard does not allow, read as most readers read them.

Held against nibabel, SimpleITK and niftilib (``nifti1_io.c``); where two of the three agree, so do
we. The table stands in ``docs/inputs.md``. A header is any mapping from field names to arrays.
"""

from typing import Any

import numpy as np

QUATERNION_EXCESS = 1e-3  # by which b^2 + c^2 + d^2 may be over 1: rounding, and hand-made headers


def repaired(header: Any) -> tuple[str, ...]:
    """Bring pixdim and quaternion of a header to what they stand for, in place.

    - pixdim[0], the handedness of the qform: any negative number is -1, all else is 1.
    - Voxel sizes that are 0 or not finite are 1 mm, negative ones are taken without their sign.
    - A quaternion a little over length 1 is brought to length 1.
    - Axes beyond the third that claim 0 voxels or fewer have one.

    Returns
    -------
    tuple of str
        What was changed, in words.
    """
    said = [*_dimensions(header), *_voxel_sizes(header)]
    if int(header["qform_code"]) > 0:
        said += [*_handedness(header), *_quaternion(header)]
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isfinite(slope) and slope != 0 and not np.isfinite(inter):
        said.append("an intercept that is no number, taken as 0")
    return tuple(said)


def _dimensions(header: Any) -> list[str]:
    count = min(int(header["dim"][0]), 7)
    odd = [axis for axis in range(4, count + 1) if header["dim"][axis] <= 0]
    for axis in odd:
        header["dim"][axis] = 1
    return [f"no voxel along axis {axis}, taken as 1" for axis in odd]


def _voxel_sizes(header: Any) -> list[str]:
    said = []
    for axis in (1, 2, 3):
        size = float(header["pixdim"][axis])
        if size == 0 or not np.isfinite(size):
            header["pixdim"][axis] = 1
            said.append(f"pixdim[{axis}] of {size:g}, taken as 1 mm")
        elif size < 0:
            header["pixdim"][axis] = -size
            said.append(f"pixdim[{axis}] of {size:g}, taken without its sign")
    return said


def _handedness(header: Any) -> list[str]:
    qfac = float(header["pixdim"][0])
    if qfac in (-1.0, 1.0):
        return []
    header["pixdim"][0] = -1 if qfac < 0 else 1
    return [f"pixdim[0] of {qfac:g}, taken as {-1 if qfac < 0 else 1}"]


def _quaternion(header: Any) -> list[str]:
    names = ("quatern_b", "quatern_c", "quatern_d")
    bcd = np.array([float(header[name]) for name in names])
    with np.errstate(over="ignore"):
        length2 = float(bcd @ bcd)
    step = float(np.finfo(header[names[0]].dtype).eps)
    if not 1 + step < length2 <= 1 + QUATERNION_EXCESS:
        return []
    for name, value in zip(names, bcd / np.sqrt(length2), strict=True):
        header[name] = value * (1 - step)
    if length2 <= 1 + 3 * step:  # what writing it as float rounds by
        return []
    return [f"a quaternion whose square is {length2 - 1:.1g} over 1, brought to 1"]
