"""The voxels of NIfTI files, as a stream of slabs, and whole files of them.

Voxels are decoded by isal, about twice as fast as zlib, straight into the array. A header that lies
about the size costs nothing: no more memory is taken than the caller allows, and hardly more bytes
are decoded than the header promises.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError

from unet_pipeline.volume.nifti_header import NiftiHeader, broken, header_bytes

GZIP_MAGIC = b"\x1f\x8b"
TRAILING_BYTES = 64 * 2**20  # that are read after the voxels before a file is refused


def read_slabs(
    file: BinaryIO, header: NiftiHeader, slab_bytes: int = 64_000_000
) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Decode the voxels of a file as a stream of slabs.

    Parameters
    ----------
    file
        The stored bytes, from the first; read to their end.

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
    slice_bytes = x * y * header.dtype.itemsize
    step = max(1, slab_bytes // slice_bytes)
    with _decoded(file, header) as stream:
        _skip(stream, header.offset)
        for z in range(0, depth, step):
            part = slice(z, min(z + step, depth))
            flat = np.frombuffer(
                _read_exactly(stream, slice_bytes * (part.stop - z)), dtype=header.dtype
            )
            yield part, flat.reshape((x, y, part.stop - z), order="F")
        _drain(stream)


def check_whole(file: BinaryIO, header: NiftiHeader) -> None:
    """Decode a file to its end without keeping it: it must hold what its header promises.

    Raises
    ------
    CaseError
        As ``read_slabs``.
    """
    with _decoded(file, header) as stream:
        _skip(stream, header.offset + header.nbytes)
        _drain(stream)


def scaled(stored: npt.NDArray[Any], header: NiftiHeader) -> npt.NDArray[np.float32]:
    """Return stored values as float32, by the header's slope and intercept."""
    if (header.slope, header.inter) == (1.0, 0.0):
        return np.asarray(stored, dtype=np.float32)
    values = stored.astype(np.float64) * header.slope + header.inter
    return np.asarray(values, dtype=np.float32)


def encode_labels(labels_XYZ: npt.NDArray[Any], like: NiftiHeader) -> bytes:
    """Return a ``.nii.gz`` file of a label map with the geometry of ``like``, bit for bit.

    The same labels give the same bytes: no time stamp, no free text.
    """
    return igzip.compress(encode_volume(labels_XYZ, like), 1, mtime=0)


def encode_volume(values_XYZ: npt.NDArray[Any], like: NiftiHeader) -> bytes:
    """Return an uncompressed ``.nii`` file of ``values_XYZ`` with the geometry of ``like``."""
    x, y, z = values_XYZ.shape
    return header_bytes((x, y, z), values_XYZ.dtype, like) + values_XYZ.tobytes(order="F")


@contextmanager
def _decoded(file: BinaryIO, header: NiftiHeader) -> Iterator[Any]:
    """Open a stream of decompressed bytes, and name the faults of reading it."""
    start = file.read(2)
    joined = _Joined(start, file)
    try:
        yield igzip.IGzipFile(fileobj=joined, mode="rb") if start == GZIP_MAGIC else joined
    except EOFError as error:
        raise broken("file_truncated", f"a file that ends before its {header.nbytes} bytes of "
                      "voxels") from error  # fmt: skip
    except (gzip.BadGzipFile, IsalError, zlib.error) as error:  # type: ignore[misc]
        raise broken("file_corrupt", "gzip data that fail their check") from error


class _Joined(io.RawIOBase):
    """A file whose first bytes were read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._start or self._rest.read(len(buffer))
        self._start = b""
        buffer[: len(data)] = data
        return len(data)


def _skip(stream: Any, count: int) -> None:
    while count:
        count -= len(_read_exactly(stream, min(count, 1 << 20)))


def _read_exactly(stream: Any, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        part = stream.read(min(count - len(data), 16_000_000))
        if not part:
            raise EOFError
        data += part
    return data


def _drain(stream: Any) -> None:
    """Read to the end, where gzip checks its sums; but not for ever."""
    beyond = 0
    while part := stream.read(1 << 20):
        beyond += len(part)
        if beyond > TRAILING_BYTES:
            raise broken("file_trailing_data", f"over {TRAILING_BYTES:,} bytes after the voxels")
