"""The cohort of a swarm: many volumes of one tile, few of a hundred, with headers and no voxels."""

from pathlib import Path

import nibabel as nib
import numpy as np

SMALL, LARGE = (256, 256, 64), (512, 512, 6400)
TILE = (512, 512, 64)  # the large ones are a hundred slabs, as plans without --tile are slabs, too
SPACING_MM = 0.1  # of a scan of a specimen: a stack of so many slices is no patient


def write_cohort(folder: Path, small: int, large: int) -> None:
    """Write headers of NIfTI files whose voxels are holes: all that a driver reads of them.

    Large volumes lie evenly among the small ones, as in any list by name.
    """
    folder.mkdir(parents=True)
    every = max((small + large) // large, 1) if large else 0
    left = large
    for number in range(small + large):
        is_large = bool(left) and number % every == every // 2
        left -= is_large
        _write_holes(folder / f"case-{number:06d}.nii", LARGE if is_large else SMALL)
    assert left == 0, "large volumes that found no place"


def _write_holes(path: Path, shape: tuple[int, int, int]) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_xyzt_units("mm")
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * int(np.prod(shape)))
