"""What packs the bytes of a Zarr chunk, undone: each into the memory that the chunk takes."""

import struct
import zlib
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd

from unet_pipeline.errors import CaseError


def _gzip(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj(47)  # gzip or zlib, as the data say
    found = stream.decompress(data, size + 1)
    if len(found) == size and not stream.eof:
        found += stream.decompress(stream.unconsumed_tail, 1)
    if len(found) > size or not stream.eof:
        raise damaged("file_corrupt", "a chunk of another size than its shape takes")
    return found


def _zstd(data: bytes, size: int) -> bytes:
    if _zstd_size(data) not in (None, size):
        raise damaged("file_corrupt", "a chunk of another size than its shape takes")
    return _into(zstd.decompress, data, size)


def _zstd_size(data: bytes) -> int | None:
    """Return the size that the first frame names, if it does (RFC 8878, section 3.1.1)."""
    if len(data) < 18:
        data = data.ljust(18, b"\0")
    described = data[4]
    single = bool(described & 0x20)
    length = (1 if single else 0, 2, 4, 8)[described >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[described & 3]
    if length == 0:
        return None
    return int.from_bytes(data[start : start + length], "little") + (256 if length == 2 else 0)


def _blosc(data: bytes, size: int) -> bytes:
    if len(data) < 16:
        raise damaged("file_truncated", f"a chunk of {len(data)} bytes")
    named, _, packed = struct.unpack_from("<III", data, 4)
    if packed > len(data):
        raise damaged("file_truncated", f"a chunk of {len(data):,} bytes for {packed:,}")
    if named != size:
        raise damaged("file_corrupt", "a chunk of another size than its shape takes")
    return _into(blosc.decompress, data, size)


def _into(decompress: Any, data: bytes, size: int) -> bytes:
    target = np.empty(size, np.uint8)
    decompress(data, target)
    return target.tobytes()


def _crc32c(data: bytes, size: int) -> bytes:  # noqa: ARG001  what packs says the size
    check = int.from_bytes(data[-4:], "little")
    if len(data) < 4 or google_crc32c.value(data[:-4]) != check:
        raise damaged("file_corrupt", "a chunk that fails its check")
    return data[:-4]


UNPACK = {  # data, and the bytes that they should unpack to
    "gzip": _gzip,
    "zlib": _gzip,
    "zstd": _zstd,
    "blosc": _blosc,
    "crc32c": _crc32c,
}


def damaged(code: str, found: str) -> CaseError:
    """Return the error of a store that is no whole volume."""
    return CaseError(
        code, found=found, wanted="a whole volume in OME-Zarr 0.4 or 0.5",
        remedy="Replace the store by a sound copy",
    )  # fmt: skip
