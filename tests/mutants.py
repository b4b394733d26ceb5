"""Volumes with something odd in them: any number in any field, bytes turned over, files cut."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (12, 11, 10)
_TEXT = {"magic", "descrip", "aux_file", "intent_name", "eol_check", "unused_str", "db_name",
         "data_type"}  # fmt: skip
_ODD = (np.nan, np.inf, -np.inf, -1e308, 1e308, -1e30, 1e30, 3e38, 1e-30, 5e-324, -32768, -7, -3,
        -1, -1e-7, 0, 0.5, 1, 1.0000002, 2, 3, 4, 5, 7, 16, 64, 255, 348, 1024, 32767, 2**31 - 1,
        2**62)  # fmt: skip


def sound(rng: np.random.Generator, kind: Any, dtype: str, *, mask: bool = False) -> bytes:
    """A volume with a bright ball in it, or the ball as a mask."""
    radius = sum((i - n / 2) ** 2 for i, n in zip(np.indices(SHAPE), SHAPE, strict=True))
    ball = radius < 9
    values = ball if mask else 200 * ball + rng.integers(0, 20, SHAPE) - 100
    image = kind(values.astype(dtype), np.diag([1.5, 1.5, 2.0, 1.0]))
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    return image.to_bytes()


def mutated(rng: np.random.Generator, data: bytes, kind: Any) -> bytes:
    """The file with one to three fields of its header changed, or bytes of it, or its end lost."""
    size = kind.header_class.template_dtype.itemsize
    way = rng.integers(10)
    if way < 6:
        header = kind.header_class(data[:size], check=False)
        for name in rng.choice(sorted(set(header.keys()) - _TEXT), rng.integers(1, 4)):
            _set(rng, header, name)
        data = header.binaryblock + data[size:]
    elif way < 9:
        changed = bytearray(data)
        end = size if way < 8 else len(data)
        for at in rng.integers(0, end, rng.integers(1, 9)):
            changed[at] = rng.integers(256)
        data = bytes(changed)
    else:
        data = data[: rng.integers(len(data))]
    return data


def _set(rng: np.random.Generator, header: Any, name: str) -> None:
    field, number = np.atleast_1d(header[name]).copy(), rng.choice(_ODD)
    if field.dtype.kind in "iu":
        limits = np.iinfo(field.dtype)
        number = int(min(max(float(np.nan_to_num(number)), limits.min), limits.max - 1))
    with np.errstate(over="ignore"):
        field[rng.integers(len(field))] = number
    header[name] = field.reshape(np.shape(header[name]))


def mutants(count: int, seed: int = 0, *, mask: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of mutated files: NIfTI-1 and -2, of four types, packed or not."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        kind = (nib.Nifti1Image, nib.Nifti2Image)[index % 2]
        dtype = "u1" if mask else ("i2", "f4", "u1", "f8")[index // 2 % 4]
        data = mutated(rng, sound(rng, kind, dtype, mask=mask), kind)
        if rng.integers(2):
            data = bytearray(gzip.compress(data, 1, mtime=0))
            if rng.integers(8) == 0:
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            yield f"m{index:04d}.nii.gz", bytes(data)
        else:
            yield f"m{index:04d}.nii", data


def write_mutants(folder: Path, count: int, seed: int = 0, *, mask: bool = False) -> None:
    folder.mkdir(parents=True)
    for name, data in mutants(count, seed, mask=mask):
        (folder / name).write_bytes(data)
