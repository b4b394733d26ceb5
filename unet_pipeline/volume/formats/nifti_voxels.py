"""The voxels of NIfTI files, as a stream of slabs, and whole files of them.

Voxels are decoded by isal, about twice as fast as zlib, straight into the array, and encoded by it
straight from the array. A header that lies about the size costs nothing: no more memory is taken
than the caller allows, and hardly more bytes are decoded than the header promises.
"""

import gzip
import io
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError

from unet_pipeline.clock import check_time
from unet_pipeline.volume.disk_arrays import let_go
from unet_pipeline.volume.formats.nifti_header import broken, fields_of, header_bytes
from unet_pipeline.volume.header import Header

GZIP_MAGIC = b"\x1f\x8b"
TRAILING_BYTES = 64 * 2**20  # that are read after the voxels before a file is refused
MEMBER_BYTES = 16 * 2**20  # of voxels in each gzip member that is written
_AT_ONCE = 8  # members that are being compressed
_LEVEL = 1  # of isal: levels 2 and 3 hardly shrink label maps further
_SLAB_BYTES = 2_000_000  # stay in the caches for whoever looks at them next


def read_slabs(
    file: BinaryIO,
    header: Header,
    slab_bytes: int = _SLAB_BYTES,
    target_XYZ: npt.NDArray[Any] | None = None,
) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Decode the voxels of a file as a stream of slabs.

    Parameters
    ----------
    file
        The stored bytes, from the first; read to their end.
    target_XYZ
        Where to decode the voxels to: of the header's shape and type, in Fortran order; several
        volumes follow each other along the third axis, as they do in the file. By default
        each slab is an array of its own.

    Yields
    ------
    slice, array
        Range of the third axis, and its stored values (not scaled), shape (X, Y, slab).

    Raises
    ------
    CaseError
        ``file_truncated``, ``file_corrupt`` or ``file_trailing_data``.
    """
    x, y, depth = header.grid.shape
    depth *= header.volumes
    slice_bytes, before = x * y * header.dtype.itemsize, header.first * header.volume_bytes
    step = max(1, slab_bytes // slice_bytes)
    with _decoded(file, header) as stream:
        _skip(stream, fields_of(header).offset + before)
        for z in range(0, depth, step):
            check_time()
            part = slice(z, min(z + step, depth))
            slab_ZYX = (
                np.empty((part.stop - z, y, x), header.dtype)
                if target_XYZ is None
                else target_XYZ.T[part]
            )
            _fill(stream, _bytes_of(slab_ZYX))
            yield part, slab_ZYX.T
        _skip(stream, header.stored_bytes - header.nbytes - before)
        _drain(stream)


def check_whole(file: BinaryIO, header: Header) -> None:
    """Decode a file to its end without keeping it: it must hold what its header promises.

    Raises
    ------
    CaseError
        As ``read_slabs``.
    """
    with _decoded(file, header) as stream:
        _skip(stream, fields_of(header).offset + header.stored_bytes)
        _drain(stream)


def encode_labels(labels_XYZ: npt.NDArray[Any], like: Header, slope: float = 1.0) -> bytes:
    """Return a ``.nii.gz`` file of a label map with the geometry of ``like``, bit for bit.

    The same labels give the same bytes: no time stamp, no free text, and gzip members of one size,
    however many threads compress them.

    Parameters
    ----------
    slope
        What readers multiply voxels with, for numbers that are no labels.
    """
    return b"".join(Members(labels_XYZ, like, slope))


def encode_volume(values_XYZ: npt.NDArray[Any], like: Header) -> bytes:
    """Return an uncompressed ``.nii`` file of ``values_XYZ`` with the geometry of ``like``."""
    parts = _parts(values_XYZ, like)
    return b"".join(part if isinstance(part, bytes) else part.data for part in parts)


@dataclass(frozen=True)
class Members:
    """The file of ``encode_labels``, member by member, encoded whenever it is gone through.

    Some members are in memory at a time, and a mapped label map is let go of behind them.
    """

    values_XYZ: npt.NDArray[Any]
    like: Header
    slope: float = 1.0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the members, in their order."""
        count = -(-self.values_XYZ.nbytes // MEMBER_BYTES)
        parts = _parts(self.values_XYZ, self.like, self.slope)
        if count <= 1:
            yield from map(_compressed, parts)
            return
        threads = min(count, os.cpu_count() or 1, _AT_ONCE)
        pending: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for part in parts:
                if len(pending) > threads:
                    yield pending.popleft().result()
                pending.append(pool.submit(_compressed, part))
            while pending:
                yield pending.popleft().result()


def _parts(
    values_XYZ: npt.NDArray[Any], like: Header, slope: float = 1.0
) -> Iterator[bytes | npt.NDArray[np.uint8]]:
    """Yield a ``.nii`` file in pieces; only the first, which begins with the header, is a copy."""
    x, y, z = values_XYZ.shape
    voxels = np.ascontiguousarray(values_XYZ.T).reshape(-1).view(np.uint8)
    begin = header_bytes((x, y, z), values_XYZ.dtype, like, slope)
    yield begin + voxels[:MEMBER_BYTES].data
    let_go(voxels[:MEMBER_BYTES])
    for start in range(MEMBER_BYTES, len(voxels), MEMBER_BYTES):
        yield voxels[start : start + MEMBER_BYTES]


def _compressed(data: bytes | npt.NDArray[np.uint8]) -> bytes:
    compressed: bytes = igzip.compress(data, _LEVEL, mtime=0)
    if isinstance(data, np.ndarray):
        let_go(data)
    return compressed


def _bytes_of(dense: npt.NDArray[Any]) -> memoryview:
    """Return the memory of an array in C order."""
    return dense.reshape(-1).view(np.uint8).data


@contextmanager
def _decoded(file: BinaryIO, header: Header) -> Iterator[Any]:
    """Open a stream of decompressed bytes, and name the faults of reading it."""
    start = file.read(2)
    joined = _Joined(start, file)
    try:
        yield igzip.IGzipFile(fileobj=joined, mode="rb") if start == GZIP_MAGIC else joined
    except EOFError as error:
        raise broken(
            "file_truncated", f"a file that ends before its {header.stored_bytes} bytes of voxels"
        ) from error
    except (gzip.BadGzipFile, IsalError, zlib.error) as error:  # type: ignore[misc]
        raise broken("file_corrupt", "gzip data that fail their check") from error


class _Joined(io.RawIOBase):
    """A file whose first bytes were read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._start:
            return self._rest.readinto(buffer)  # type: ignore[attr-defined, no-any-return]
        data, self._start = self._start, b""
        buffer[: len(data)] = data
        return len(data)


def _skip(stream: Any, count: int) -> None:
    beside = memoryview(bytearray(min(count, 1 << 20)))
    while count:
        check_time()
        part = beside[: min(count, len(beside))]
        _fill(stream, part)
        count -= len(part)


def _fill(stream: Any, buffer: memoryview) -> None:
    while buffer:
        count = stream.readinto(buffer)
        if not count:
            raise EOFError
        buffer = buffer[count:]


def _drain(stream: Any) -> None:
    """Read to the end, where gzip checks its sums; but not for ever."""
    beyond = 0
    while part := stream.read(1 << 20):
        beyond += len(part)
        if beyond > TRAILING_BYTES:
            raise broken("file_trailing_data", f"over {TRAILING_BYTES:,} bytes after the voxels")
