"""Arrays of Zarr (version 2 and 3) as their metadata describe them, and their chunks, decoded.

Nothing here is looked up by a name that a file gives: what is not listed is refused, so no codec
can run code. A chunk is decoded into the memory that its shape takes, whatever it says of its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unet_pipeline.errors import CaseError
from unet_pipeline.volume.formats.zarr_bytes import UNPACK, damaged

MOST_CHUNK_BYTES = 2**30  # of one object, decoded
MOST_CHUNKS = 2**20
_MISSING = 2**64 - 1  # offset and size of a chunk that a shard does not hold
_TYPES = {
    "bool": "u1", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8", "uint8": "u1",
    "uint16": "u2", "uint32": "u4", "uint64": "u8", "float16": "f2", "float32": "f4",
    "float64": "f8",
}  # fmt: skip
_TYPES_2 = {f"{order}{kind}" for kind in _TYPES.values() for order in "<>|"} | {"|b1"}
_KNOWN = {
    "zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding",
    "fill_value", "codecs", "attributes", "dimension_names", "storage_transformers",
}  # fmt: skip
_NUMBERS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf, None: 0, False: 0, True: 1}
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Shards:
    """Chunks within a chunk."""

    chunks: tuple[int, ...]
    codecs: "Codecs"
    index: "Codecs"
    at_end: bool


@dataclass(frozen=True)
class Codecs:
    """How a chunk becomes bytes.

    Attributes
    ----------
    dtype
        Of the values in the bytes, with byte order.
    order
        The axis of the array that each axis of the bytes is.
    packed
        What is done to the bytes, in that order; at most one of them compresses.
    """

    dtype: np.dtype[Any]
    order: tuple[int, ...]
    packed: tuple[str, ...] = ()
    shards: Shards | None = None

    def size(self, shape: tuple[int, ...]) -> int | None:
        """Return the bytes of a stored chunk; None where they depend on its values."""
        if self.shards is not None or set(self.packed) - {"crc32c"}:
            return None
        return prod(shape) * self.dtype.itemsize + 4 * len(self.packed)

    def decode(self, data: bytes, shape: tuple[int, ...], fill: Any) -> Array:
        """Return a chunk of ``shape``."""
        if self.shards is not None:
            return self._sharded(self.shards, data, shape, fill)
        sizes = [prod(shape) * self.dtype.itemsize]
        for name in self.packed:
            sizes.append(sizes[-1] + 4 if name == "crc32c" else -1)
        for name, size in zip(reversed(self.packed), reversed(sizes[:-1]), strict=True):
            data = UNPACK[name](data, size)
        if len(data) != sizes[0]:
            raise damaged("file_truncated", f"a chunk of {len(data):,} bytes for {sizes[0]:,}")
        stored = np.frombuffer(data, self.dtype).reshape([shape[axis] for axis in self.order])
        return stored.transpose(np.argsort(self.order))

    def _sharded(self, shards: Shards, data: bytes, shape: tuple[int, ...], fill: Any) -> Array:
        grid = tuple(n // chunk for n, chunk in zip(shape, shards.chunks, strict=True))
        size = shards.index.size((*grid, 2))
        if size is None or len(data) < size:
            raise damaged("file_truncated", f"a shard of {len(data):,} bytes")
        index = shards.index.decode(data[-size:] if shards.at_end else data[:size], (*grid, 2), 0)
        values = np.full(shape, fill, self.dtype.newbyteorder("="))
        for place in np.ndindex(grid):
            offset, length = (int(n) for n in index[place])
            if (offset, length) == (_MISSING, _MISSING):
                continue
            if offset + length > len(data):
                raise damaged("file_truncated", "a shard whose index leads beyond its end")
            box = tuple(
                slice(p * n, (p + 1) * n) for p, n in zip(place, shards.chunks, strict=True)
            )
            inner = data[offset : offset + length]
            values[box] = shards.codecs.decode(inner, shards.chunks, fill)
        return values


@dataclass(frozen=True)
class ZarrArray:
    """An array in chunks.

    Attributes
    ----------
    chunks
        Shape of the chunks that are objects of the store, shards where there are any.
    dtype
        Of the values as they are handed on: no byte order but this machine's, no booleans, no
        numbers of half precision.
    prefix, separator
        Of the names of chunks.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    codecs: Codecs
    fill: Any
    prefix: str
    separator: str

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(ceil(n / chunk) for n, chunk in zip(self.shape, self.chunks, strict=True))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return prod(self.chunks) * self.codecs.dtype.itemsize

    def name(self, place: tuple[int, ...]) -> str:
        """Return the name of a chunk below the array."""
        return self.prefix + self.separator.join(map(str, place))

    def decode(self, data: bytes) -> Array:
        """Return a chunk."""
        return self.codecs.decode(data, self.chunks, self.fill)


def parse_array(metadata: Mapping[str, Any]) -> ZarrArray:
    """Return what ``zarr.json`` or ``.zarray`` describes.

    Raises
    ------
    CaseError
        ``codec_unsupported``, ``dtype_unsupported``, ``chunk_too_large``.
    KeyError, TypeError, ValueError
        For anything that is no such description.
    """
    array = _version_3(metadata) if metadata["zarr_format"] == 3 else _version_2(metadata)
    inner = array.codecs.shards.chunks if array.codecs.shards else array.chunks
    chunks = prod(array.grid), prod(n // m for n, m in zip(array.chunks, inner, strict=True))
    if array.chunk_bytes > MOST_CHUNK_BYTES or max(chunks) > MOST_CHUNKS:
        raise CaseError(
            "chunk_too_large",
            found=f"{chunks[0]:,} chunks of {array.chunk_bytes / 1e9:,.3g} GB",
            wanted=f"at most {MOST_CHUNKS:,} chunks of at most {MOST_CHUNK_BYTES / 1e9:,.3g} GB, "
            "as each is read whole",
            remedy="Write the array with chunks of some MB",
        )
    return array


def _version_3(found: Mapping[str, Any]) -> ZarrArray:
    if found["node_type"] != "array" or found.get("storage_transformers"):
        raise ValueError("no plain array")
    beyond = set(found) - _KNOWN
    if any(found[key].get("must_understand") is not False for key in beyond):
        raise ValueError("keys of an extension")
    shape = _counts(found["shape"])
    if found["data_type"] not in _TYPES:
        raise _not_numbers()
    dtype = np.dtype(_TYPES[found["data_type"]])
    grid, naming = found["chunk_grid"], found["chunk_key_encoding"]
    if grid["name"] != "regular" or naming["name"] not in {"default", "v2"}:
        raise ValueError("no regular chunks")
    chunks = _counts(grid["configuration"]["chunk_shape"], len(shape))
    default = naming["name"] == "default"
    separator = (naming.get("configuration") or {}).get("separator", "/" if default else ".")
    codecs = _codecs(found["codecs"], chunks, dtype, shards=True)
    prefix = f"c{_separator(separator)}" if default else ""
    fill = _fill(found["fill_value"], dtype)
    return ZarrArray(shape, chunks, _plain(dtype), codecs, fill, prefix, separator)


def _version_2(found: Mapping[str, Any]) -> ZarrArray:
    if found["zarr_format"] != 2 or found.get("filters"):
        raise ValueError("no plain array")
    shape, named = _counts(found["shape"]), found["dtype"]
    if named not in _TYPES_2:
        raise _not_numbers()
    dtype = np.dtype("u1" if named == "|b1" else named)
    chunks = _counts(found["chunks"], len(shape))
    axes = tuple(range(len(shape)))
    order = {"C": axes, "F": axes[::-1]}[found["order"]]
    packing = found["compressor"]
    name = None if packing is None else packing["id"]
    if name not in {None, "blosc", "zstd", "gzip", "zlib"}:
        raise _no_codec()
    codecs = Codecs(dtype, order, () if name is None else (name,))
    separator = _separator(found.get("dimension_separator", "."))
    return ZarrArray(
        shape, chunks, _plain(dtype), codecs, _fill(found["fill_value"], dtype), "", separator
    )


def _codecs(
    found: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *, shards: bool = False
) -> Codecs:
    """Return a chain: axes in another order, then bytes or shards, then what packs the bytes."""
    chain = Codecs(dtype, tuple(range(len(shape))))
    kind: Literal["array", "bytes", "shards"] = "array"
    for one in found:
        name, settings = one["name"], one.get("configuration") or {}
        if name == "transpose" and kind == "array":
            order = _permutation(settings["order"], len(shape))
            chain = replace(chain, order=tuple(chain.order[axis] for axis in order))
        elif name == "bytes" and kind == "array":
            big = {"little": False, "big": True, None: False}[settings.get("endian")]
            chain, kind = replace(chain, dtype=dtype.newbyteorder(">" if big else "<")), "bytes"
        elif name == "sharding_indexed" and kind == "array" and shards:
            plain = chain.order == tuple(range(len(shape)))
            if not plain:
                raise _no_codec()
            chain, kind = replace(chain, shards=_shards(settings, shape, dtype)), "shards"
        elif name == "crc32c" and kind == "bytes":
            chain = replace(chain, packed=(*chain.packed, name))
        elif name in {"blosc", "zstd", "gzip"} and not set(chain.packed) - {"crc32c"}:
            if kind != "bytes":
                raise _no_codec()
            chain = replace(chain, packed=(*chain.packed, name))
        else:
            raise _no_codec()
    if kind == "array":
        raise ValueError("codecs that give no bytes")
    return chain


def _shards(settings: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Shards:
    chunks = _counts(settings["chunk_shape"], len(shape))
    if any(n % chunk for n, chunk in zip(shape, chunks, strict=True)):
        raise ValueError("chunks that do not fill a shard")
    grid = tuple(n // chunk for n, chunk in zip(shape, chunks, strict=True))
    index = _codecs(settings["index_codecs"], (*grid, 2), np.dtype("u8"))
    if index.size((*grid, 2)) is None:
        raise _no_codec()
    at_end = {"end": True, "start": False}[settings.get("index_location", "end")]
    return Shards(chunks, _codecs(settings["codecs"], chunks, dtype), index, at_end)


def _counts(value: Any, length: int | None = None) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(n) is int and 1 <= n < 2**40 for n in value):
        raise ValueError("no numbers of voxels")
    if not 2 <= len(value) <= 5 or length not in (None, len(value)):
        raise ValueError("another number of axes")
    return tuple(value)


def _permutation(value: Any, length: int) -> tuple[int, ...]:
    if sorted(value) != list(range(length)):
        raise ValueError("no order of axes")
    return tuple(int(axis) for axis in value)


def _separator(value: Any) -> str:
    if value not in {"/", "."}:
        raise ValueError("no separator")
    return str(value)


def _fill(value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, str) and value.startswith("0x"):
        return np.frombuffer(bytes.fromhex(value[2:]), dtype.newbyteorder(">"))[0]
    number = _NUMBERS[value] if value is None or isinstance(value, str | bool) else value
    if not isinstance(number, int | float):
        raise TypeError("no number")
    with np.errstate(over="ignore"):
        return np.array([number]).astype(np.float64)[0] if dtype.kind == "f" else dtype.type(number)


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype("f4" if dtype == np.float16 else dtype.newbyteorder("="))


def _no_codec() -> CaseError:
    return CaseError(
        "codec_unsupported",
        found="chunks that are encoded otherwise",
        wanted="bytes, transpose, sharding_indexed, blosc, zstd, gzip and crc32c; of Zarr 2 blosc, "
        "zstd, gzip and zlib; no filters",
        remedy="Write the array with one of these",
    )


def _not_numbers() -> CaseError:
    return CaseError(
        "dtype_unsupported",
        found="voxels of a type that is none of these",
        wanted="one integer or floating-point number per voxel",
        remedy="Convert the volume to a scalar one",
    )
