"""Arrays in the scratch of a case, in chunks: read where they lie, or from who keeps them.

Whoever sees the scratch folder reads the chunks that it needs: workers of the host that wrote them,
and all workers where the folder is shared. Others ask the worker that wrote them for the part.
Chunks are not compressed: that took ten times as long as writing them.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from operator import index
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import zarr

from unet_pipeline.elsewhere import Range, own_address, read_from, remove_from
from unet_pipeline.scratch import (
    hold_scratch,
    is_scratch,
    scratch_here,
    scratch_path,
    writing_scratch,
)
from unet_pipeline.tiling.box import Index3, index3
from unet_pipeline.volume.disk_arrays import Room, is_mapped, let_go, zeros

CHUNK = (128, 128, 32)
_BOX_VOXELS = 2**24  # that are read or written at once, slices of a chunk's thickness permitting
Array = npt.NDArray[Any]
_NAME = re.compile(r"[0-9a-f]{32}\.(zarr|npy)")


@dataclass(frozen=True)
class KeptArray:
    """An array that lies in scratch; it is read where it is sliced, and nowhere else.

    Attributes
    ----------
    scratch
        What its folder is called on all hosts.
    name
        Of the array in there.
    keeper
        Address of the worker that wrote it; None where no cluster is at work.
    """

    scratch: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    keeper: str | None

    def __getitem__(self, key: int | slice | tuple[int | slice, ...]) -> Array:
        """Return a part, by slices and numbers that are not negative."""
        keys = key if isinstance(key, tuple) else (key,)
        keys = (*keys, *(slice(None),) * (len(self.shape) - len(keys)))
        ranges = [
            one.indices(length) if isinstance(one, slice) else (index(one), index(one) + 1, 1)
            for one, length in zip(keys, self.shape, strict=True)
        ]
        found = read_here(self.scratch, self.name, ranges)
        if found is None:
            found = read_from(self.keeper, self.scratch, self.name, ranges)
        return found[tuple(slice(None) if isinstance(one, slice) else 0 for one in keys)]

    def remove(self) -> None:
        """Remove the array, before its case ends; where nobody reaches it, it ends with that."""
        if not remove_here(self.scratch, self.name):
            remove_from(self.keeper, self.scratch, self.name)


def read_here(scratch: str, name: str, ranges: Sequence[Range]) -> Array | None:
    """Return a part of an array in a scratch folder of this host; None where there is none."""
    path = scratch_here(scratch) / name
    try:
        if path.suffix == ".npy":
            return _read_plain(path, ranges)
        found: Array = _Turned(_opened(path))[tuple(slice(*one) for one in ranges)]
    except FileNotFoundError:
        return None
    return found if path.exists() else None  # for a chunk that is gone reads as zeros


def remove_here(scratch: str, name: str) -> bool:
    """Remove a file of ``keep_plain`` from this host; say whether it was here."""
    try:
        (scratch_here(scratch) / name).unlink()
    except FileNotFoundError:
        return False
    return True


def is_kept(scratch: str, name: str) -> bool:
    """Say whether these are names of an array in scratch, and lead nowhere else."""
    return is_scratch(scratch_here(scratch)) and _NAME.fullmatch(name) is not None


@contextmanager
def keeping(
    scratch: str | None, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Iterator[tuple[KeptArray, Any]]:
    """Make an array of zeros in scratch, and yield it with what is to be written to.

    Parameters
    ----------
    scratch
        As of ``KeptArray``; None for a folder that lasts as long as the process.
    """
    scratch = scratch or str(scratch_path())
    folder, name = scratch_here(scratch), f"{uuid4().hex}.zarr"
    chunk = tuple(max(1, min(n, most)) for n, most in zip(shape, CHUNK, strict=True))  # as seams
    with writing_scratch(folder):
        array = zarr.create_array(
            folder / name, shape=shape[::-1], chunks=chunk[::-1], dtype=dtype, compressors=None,
            config={"write_empty_chunks": True},
        )  # fmt: skip
        yield KeptArray(scratch, name, shape, np.dtype(dtype), own_address()), _Turned(array)


def keep(values: Array, scratch: str | None) -> KeptArray:
    """Put an array into scratch."""
    with keeping(scratch, values.shape, values.dtype) as (kept, target):
        for part in each_box(values):
            target[part] = values[part]
    return kept


def keep_plain(values: Array, scratch: str) -> KeptArray:
    """Put an array into one file of scratch, as it lies in memory: for what is read as a whole."""
    folder, name = scratch_here(scratch), f"{uuid4().hex}.npy"
    with writing_scratch(folder):
        np.save(folder / name, values)
    return KeptArray(scratch, name, values.shape, values.dtype, own_address())


def for_others(values: Array | KeptArray, scratch: str | None) -> Array | KeptArray:
    """Return an array as other processes may have it: a mapped one is put into scratch."""
    if isinstance(values, KeptArray) or not is_mapped(values):
        return values
    return keep(values, scratch)


def opened(values: Array | KeptArray, room: Room) -> Array:
    """Return an array to work on: as it is, or what is kept, in memory or mapped."""
    if not isinstance(values, KeptArray):
        return values
    found = zeros(index3(values.shape), values.dtype, room)
    for part in each_box(found):
        found[part] = values[part]
    return found


def each_box(*arrays_XYZ: Array) -> Iterator[tuple[slice, slice, slice]]:
    """Yield the boxes of arrays of one shape, and let go of what was read there.

    Those in memory stay as they are.
    """
    for part in boxes_of(index3(arrays_XYZ[0].shape)):
        yield part
        for array_XYZ in arrays_XYZ:
            let_go(array_XYZ[part])


def boxes_of(shape: Index3) -> Iterator[tuple[slice, slice, slice]]:
    """Yield boxes of whole chunks, of some million voxels each."""
    width, height, depth = shape
    _, y, z = CHUNK
    rows = max(y, _BOX_VOXELS // (width * z) // y * y)
    for k, j in product(range(0, depth, z), range(0, height, rows)):
        yield slice(0, width), slice(j, min(j + rows, height)), slice(k, min(k + z, depth))


@dataclass(frozen=True)
class _Turned:
    """An array of scratch, in which axes are the other way round: so voxels lie as in a file."""

    inner: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array as it was put in."""
        return tuple(self.inner.shape[::-1])

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        return np.asarray(self.inner[key[::-1]]).T

    def __setitem__(self, key: tuple[slice, ...], values: Array) -> None:
        self.inner[key[::-1]] = np.asarray(values).T


def _read_plain(path: Path, ranges: Sequence[Range]) -> Array:
    found: Array = np.load(path)
    return found[tuple(slice(*one) for one in ranges)]


@lru_cache(maxsize=256)
def _opened(path: Path) -> Any:
    array = zarr.open_array(path, mode="r")
    hold_scratch(path.parent)
    return array
