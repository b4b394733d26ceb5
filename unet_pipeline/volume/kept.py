"""Arrays in the scratch of a case, in chunks: read where they lie, or from who keeps them.

Whoever sees the scratch folder reads the chunks that it needs: workers of the host that wrote them,
and all workers where the folder is shared. Others ask the worker that wrote them for the part.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from operator import index
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import zarr

from unet_pipeline.elsewhere import Range, own_address, read_from
from unet_pipeline.scratch import (
    hold_scratch,
    is_scratch,
    scratch_here,
    scratch_path,
    writing_scratch,
)
from unet_pipeline.volume.disk_arrays import each_slab

CHUNK = (128, 128, 32)
Array = npt.NDArray[Any]
_NAME = re.compile(r"[0-9a-f]{32}\.zarr")


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

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

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


def read_here(scratch: str, name: str, ranges: Sequence[Range]) -> Array | None:
    """Return a part of an array in a scratch folder of this host; None where there is none."""
    path = scratch_here(scratch) / name
    try:
        found: Array = _opened(path)[tuple(slice(*one) for one in ranges)]
    except FileNotFoundError:
        return None
    return found if path.exists() else None  # for a chunk that is gone reads as zeros


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
    with writing_scratch(folder):
        array = zarr.create_array(folder / name, shape=shape, chunks=CHUNK, dtype=dtype)
        yield KeptArray(scratch, name, shape, np.dtype(dtype), own_address()), array


def keep(values: Array, scratch: str | None) -> KeptArray:
    """Put an array into scratch."""
    with keeping(scratch, values.shape, values.dtype) as (kept, target):
        for part in each_slab(values, places=chunks_of(values.shape[2])):
            target[:, :, part] = values[:, :, part]
    return kept


def chunks_of(depth: int) -> list[slice]:
    """Return places on the last axis, as thick as chunks are."""
    return [slice(z, min(z + CHUNK[2], depth)) for z in range(0, depth, CHUNK[2])]


@lru_cache(maxsize=256)
def _opened(path: Path) -> Any:
    array = zarr.open_array(path, mode="r")
    hold_scratch(path.parent)
    return array
