"""The volumes of the benchmark: slices of a real CT, or of a phantom where there is none."""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from unet_pipeline.phantoms import make_phantom

SERIES = "abdomen_ct/example_ct_dicom.nii.gz"  # 512 x 512 x 20
HIPPOCAMPUS = "hippocampus/images"
AIR = -1024
_SIDE = 512


@dataclass(frozen=True)
class Volume:
    """What a CT of the benchmark looks like.

    Attributes
    ----------
    shape, spacing_mm
        Of the file. Spacings are exact in binary, so that no contender resamples by mistake.
    inside
        ``middle`` cuts out the middle of the slices, ``coarse`` takes every n-th voxel of them,
        ``corner`` puts every second voxel into one quarter and leaves the rest to air.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    inside: str = "middle"


def shared_data() -> Path | None:
    """Return the folder of real volumes, if there is one."""
    beside_project = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("UNET_PIPELINE_SHARED_DATA", beside_project))
    return folder if (folder / "index.json").is_file() else None


def source() -> str:
    """Say where the voxels of the CTs come from."""
    folder = shared_data()
    if folder is None or not (folder / SERIES).is_file():
        return "a phantom with air around it, 512 x 512 x 20, its slices repeated to and fro"
    (entry,) = (e for e in json.loads((folder / "index.json").read_text()) if e["file"] == SERIES)
    return f"a real CT, 512 x 512 x 20 ({entry['repo']}), its slices repeated to and fro"


def write_ct(volume: Volume, path: Path) -> None:
    """Write a CT as int16 NIfTI, axes LAS, gzip of one member."""
    values_XYZ = _laid_out(volume)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0]) @ np.diag([*volume.spacing_mm, 1.0])
    affine[:3, 3] = (volume.shape[0] * volume.spacing_mm[0] / 2, -60.0, -800.0)
    nib.save(nib.Nifti1Image(values_XYZ, affine), path)


def write_cohort(count: int, folder: Path) -> str:
    """Write or link ``count`` small volumes into a folder; return where they come from."""
    data = shared_data()
    images = sorted((data / HIPPOCAMPUS).glob("*.nii.gz")) if data else []
    for image in images[:count]:
        (folder / image.name).symlink_to(image)
    if not images:
        for seed in range(count):
            phantom = make_phantom(seed, (36, 50, 36), (1.0, 1.0, 1.0))
            nib.save(nib.Nifti1Image(phantom.image_XYZ, phantom.affine), folder / f"{seed}.nii.gz")
    return "hippocampus images of the Medical Segmentation Decathlon" if images else "phantoms"


def _laid_out(volume: Volume) -> Any:
    x, y, z = volume.shape
    slices_XYZ = _slices()
    if volume.inside == "middle":
        left, front = (_SIDE - x) // 2, (_SIDE - y) // 2
        slices_XYZ = slices_XYZ[left : left + x, front : front + y]
    elif volume.inside == "coarse":
        slices_XYZ = slices_XYZ[:: _SIDE // x, :: _SIDE // y]
    else:
        body_XYZ, slices_XYZ = slices_XYZ[::2, ::2], np.full_like(slices_XYZ[:x, :y], AIR)
        slices_XYZ[: _SIDE // 2, : _SIDE // 2] = body_XYZ
    there = slices_XYZ.shape[2]
    to_and_fro = [*range(there), *range(there - 1, -1, -1)]
    return slices_XYZ[:, :, np.resize(to_and_fro, z)]


@cache
def _slices() -> Any:
    folder = shared_data()
    if folder is not None and (folder / SERIES).is_file():
        return np.asarray(nib.load(folder / SERIES).dataobj).astype(np.int16)
    phantom = make_phantom(0, (_SIDE, _SIDE, 20), (0.19, 0.19, 4.5))
    values = 2.5 * phantom.image_XYZ - 1000
    return np.where(values < -600, AIR, np.clip(values, AIR, 3071)).astype(np.int16)
