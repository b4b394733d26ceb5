"""Arrays as large as a volume: in memory where they fit, else in a file of scratch that is mapped.

A mapped array is an array as any other, for compiled loops too. The pages of it that were touched
count as memory of the process, until they are let go of: so whoever walks over one does it slab by
slab, with ``each_slab``. The file ends with its array, or with the process, however that ends.
"""

import mmap
import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import byte_bounds

from unet_pipeline.scratch import scratch_folder, scratch_here, writing_scratch
from unet_pipeline.tiling.box import Index3

Array = npt.NDArray[Any]

SHARE = 4  # of a budget that one array may take: label map, mask, margins, and room to work
SLAB_VOXELS = 2**22
_BLOCK = 128  # voxels along each axis that are copied at once where two orders meet


@dataclass(frozen=True)
class Room:
    """Where an array as large as a volume may lie.

    Attributes
    ----------
    budget_bytes
        Of the whole case. An array that takes more than a quarter of it goes to a file.
    scratch
        What the scratch folder for that is called. Default: one of this process.
    """

    budget_bytes: float
    scratch: str | None = None

    @property
    def beside(self) -> Path | None:
        """Where scratch of the same disk may lie; None for the system's folder."""
        return None if self.scratch is None else scratch_here(self.scratch).parent


IN_MEMORY = Room(np.inf)


def zeros(shape: Index3, dtype: npt.DTypeLike, room: Room = IN_MEMORY) -> Array:
    """Return an array of zeros in Fortran order, in memory or in a file.

    Raises
    ------
    OSError
        If there is no space for the file. It has all its space from the start: a mapped file that
        finds the disk full later would take the process with it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= room.budget_bytes / SHARE:
        return np.zeros(shape, dtype, order="F")
    with _folder_of(room) as folder:
        mapping = _made(folder / f"{uuid4().hex}.raw", size)
    mapping.room = room
    return np.ndarray(shape, dtype, mapping, order="F")


def room_of(array: Array) -> Room:
    """Return where an array lies, for another that is made of it."""
    mapping = _mapping_of(array)
    return IN_MEMORY if mapping is None else mapping.room


def is_mapped(array: Array) -> bool:
    """Say whether an array lies in a file."""
    return _mapping_of(array) is not None


def in_file_order(values_XYZ: Array) -> Array:
    """Return a mapped array with its first axis innermost, as it is or a copy; others as they are.

    It is copied block by block, for slabs of one are no slabs of the other.
    """
    if values_XYZ.flags.f_contiguous or not is_mapped(values_XYZ):
        return values_XYZ
    ordered_XYZ = zeros(values_XYZ.shape, values_XYZ.dtype, room_of(values_XYZ))
    starts = [range(0, n, _BLOCK) for n in values_XYZ.shape]
    for place in product(*starts):
        block = tuple(slice(start, start + _BLOCK) for start in place)
        ordered_XYZ[block] = values_XYZ[block]
        let_go(values_XYZ[block])
        let_go(ordered_XYZ[block])
    return ordered_XYZ


def thinned(values_XYZ: Array, part: tuple[slice, slice, slice]) -> Array:
    """Return what is sliced of an array, in memory; it is read slice by slice of the last axis."""
    x, y, z = part
    places = range(*z.indices(values_XYZ.shape[2]))
    found: Array = np.empty((*values_XYZ[x, y, 0].shape, len(places)), values_XYZ.dtype, order="F")
    for index, place in enumerate(places):
        found[..., index] = values_XYZ[x, y, place]
        let_go(values_XYZ[..., place])
    return found


def slabs_of(shape: tuple[int, ...]) -> list[slice]:
    """Return places on the last axis, of about ``SLAB_VOXELS`` each."""
    *across, depth = shape
    thick = max(1, SLAB_VOXELS // max(1, prod(across)))
    return [slice(z, min(z + thick, depth)) for z in range(0, depth, thick)]


def each_slab(*arrays_XYZ: Array, places: Iterable[slice] | None = None) -> Iterator[slice]:
    """Yield places on the last axis, one after the other, and let go of what was read there.

    Parameters
    ----------
    arrays_XYZ
        Of one shape; those in memory stay as they are.
    places
        Default: those of ``slabs_of``.
    """
    for part in slabs_of(arrays_XYZ[0].shape) if places is None else places:
        yield part
        for array_XYZ in arrays_XYZ:
            let_go(array_XYZ[..., part])


def largest(labels_XYZ: Array) -> int:
    """Return the largest label of a map, 0 at least."""
    parts = each_slab(labels_XYZ)
    return max((int(labels_XYZ[..., part].max(initial=0)) for part in parts), default=0)


def let_go(array: Array) -> None:
    """Give the pages of a mapped array back to the system, which keeps what they hold.

    They are read again, from the file, when they are touched the next time. Nothing happens to
    an array in memory.
    """
    mapping = _mapping_of(array)
    if mapping is not None and array.size:
        low, high = (place - mapping.address for place in byte_bounds(array))
        start = low // mmap.PAGESIZE * mmap.PAGESIZE
        mapping.madvise(mmap.MADV_DONTNEED, start, high - start)


class _Mapping(mmap.mmap):
    """A mapped file that knows where in memory it lies."""

    address: int
    room: Room


@contextmanager
def _folder_of(room: Room) -> Iterator[Path]:
    """Make the scratch folder of a room; one of this process goes at once, and the file stays."""
    if room.scratch is None:
        with scratch_folder() as folder:
            yield folder
    else:
        folder = scratch_here(room.scratch)
        with writing_scratch(folder):
            yield folder


def _made(path: Path, size: int) -> _Mapping:
    """Make a file of zeros that is removed when its mapping is no longer used, and map it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        mapping = _Mapping(descriptor, size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    mapping.address = byte_bounds(np.frombuffer(mapping, np.uint8))[0]
    weakref.finalize(mapping, path.unlink, missing_ok=True)
    return mapping


def _mapping_of(array: Any) -> _Mapping | None:
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, _Mapping) else None
