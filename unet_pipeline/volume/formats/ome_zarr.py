"""OME-Zarr: one level of an image in chunks, read block by block.

Two objects make up a volume: the metadata of the image, and the folder of its level (a URL that
ends with a slash). Other levels and labels have no part in its version or its digests.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.clock import check_time
from unet_pipeline.errors import CaseError
from unet_pipeline.storage.chunk_folders import digest_of_all, version_of
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.ledger import digest_bytes, digest_object
from unet_pipeline.storage.sidecar import InputDigest
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.versions import Versions, expect, one_version
from unet_pipeline.volume.axes import select_axes
from unet_pipeline.volume.formats.ome_labels import OmeLabels
from unet_pipeline.volume.formats.ome_metadata import Level, parse_level
from unet_pipeline.volume.formats.protocol import (
    VOXELS,
    ProbeResult,
    Reader,
    ReadOptions,
    Slabs,
    Writer,
    check_size,
)
from unet_pipeline.volume.formats.zarr_arrays import Array, ZarrArray, parse_array
from unet_pipeline.volume.formats.zarr_bytes import damaged
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import Header, Remark

_METADATA_BYTES = 16 * 2**20
_AT_ONCE_BYTES = 2**28  # of chunks that are decoded side by side
_AT_ONCE = 8
_WRONG = (
    KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class _Image:
    """The metadata of a store as they were read."""

    root: str
    root_data: bytes
    root_fingerprint: Fingerprint
    folder: str
    array_name: str
    array_data: bytes
    array_fingerprint: Fingerprint
    level: Level
    array: ZarrArray


class OmeZarr:
    """Images of OME-Zarr 0.5 (Zarr 3) and 0.4 (Zarr 2)."""

    def objects(self, store: Store, url: str, level: int) -> dict[str, str]:
        """Return the metadata of the image, and the folder of the level."""
        root, _, _, found = _level(store, url, level)
        return {"": root, VOXELS: _folder(url, found)}

    def probe(self, store: Store, url: str, options: ReadOptions) -> ProbeResult:
        """Read the metadata, and list the chunks."""
        image = _image(store, url, options.axes.level)
        chunks = store.objects_below(image.folder)
        expect(image.folder, image.array_fingerprint, {image.folder: chunks[image.array_name]})
        header = _header(image, chunks, options)
        read = len(image.root_data) + len(image.array_data)
        return ProbeResult(
            header, read, {image.root: image.root_fingerprint, image.folder: version_of(chunks)}
        )

    @contextmanager
    def open(
        self, store: Store, url: str, options: ReadOptions, role: str, versions: Versions
    ) -> Iterator["_Open"]:
        """Open a level, and digest every object of it."""
        image = _image(store, url, options.axes.level)
        chunks = store.objects_below(image.folder)
        fingerprints = {image.root: image.root_fingerprint, image.folder: version_of(chunks)}
        for each, now in fingerprints.items():
            expect(each, now, versions)
        header = _header(image, chunks, options)
        with (
            one_version(store, image.folder, fingerprints),
            one_version(store, image.root, fingerprints),
        ):
            source = _Open(header, store, image, chunks, role)
            yield source
            source.digest_rest()


READER: Reader = OmeZarr()
WRITER: Writer = OmeLabels()


@dataclass(frozen=True)
class _Open:
    header: Header
    store: Store
    image: _Image
    fingerprints: Mapping[str, Fingerprint]
    role: str
    digests: dict[str, str] = field(default_factory=dict)

    def slabs(self, target_XYZ: Array | None, depth: int, most_bytes: int) -> Slabs:
        """Decode the chunks of one slab after the other, several at once."""
        x, y, z = self.header.grid.shape
        thick = self._thickness(depth, most_bytes, whole=target_XYZ is not None)
        many = max(1, min(_AT_ONCE, _AT_ONCE_BYTES // self.image.array.chunk_bytes))
        with ThreadPoolExecutor(many) as pool:
            for volume in range(self.header.volumes):
                for first in range(0, z, thick):
                    check_time()
                    last = min(first + thick, z)
                    part = slice(volume * z + first, volume * z + last)
                    slab = (
                        np.empty((x, y, last - first), self.header.dtype, order="F")
                        if target_XYZ is None
                        else target_XYZ[:, :, part]
                    )
                    self._fill(pool, slab, volume, first)
                    yield part, slab

    def _thickness(self, depth: int, most_bytes: int, *, whole: bool) -> int:
        """Return slices of a slab: whole chunks, if they fit; else some chunks are read again."""
        x, y, _ = self.header.grid.shape
        along = self.image.level.space[2]
        of_chunk = 1 if along is None else self.image.array.chunks[along]
        if whole:
            return of_chunk
        both = math.lcm(depth, of_chunk)
        fits = both * x * y * self.header.dtype.itemsize <= most_bytes
        return both if fits else depth

    def _fill(self, pool: ThreadPoolExecutor, slab: Array, volume: int, first: int) -> None:
        level, array = self.image.level, self.image.array
        low, high = [0] * len(array.shape), list(array.shape)
        if level.space[2] is not None:
            low[level.space[2]], high[level.space[2]] = first, first + slab.shape[2]
        index = self.header.first + volume
        for axis in level.beside:
            low[axis], high[axis] = (index, index + 1) if array.shape[axis] > 1 else (0, 1)
        ranges = [
            range(start // chunk, (stop - 1) // chunk + 1)
            for start, stop, chunk in zip(low, high, array.chunks, strict=True)
        ]
        for _ in pool.map(lambda place: self._place(slab, place, low, high), product(*ranges)):
            pass

    def _place(self, slab: Array, place: tuple[int, ...], low: list[int], high: list[int]) -> None:
        """Put the part of one chunk where it belongs in a slab."""
        level, array = self.image.level, self.image.array
        starts = [p * n for p, n in zip(place, array.chunks, strict=True)]
        begin = [max(a, b) for a, b in zip(low, starts, strict=True)]
        end = [min(a, b + n) for a, b, n in zip(high, starts, array.chunks, strict=True)]
        where = tuple(
            slice(0, 1) if axis is None else slice(begin[axis] - low[axis], end[axis] - low[axis])
            for axis in level.space
        )
        values = self._chunk(place)
        if values is None:
            slab[where] = array.fill
            return
        cut = values[tuple(slice(a - s, b - s) for a, b, s in zip(begin, end, starts, strict=True))]
        cut = cut.reshape([n for axis, n in enumerate(cut.shape) if axis not in level.beside])
        slab[where] = _as_XYZ(cut, level)

    def _chunk(self, place: tuple[int, ...]) -> Array | None:
        """Return a chunk; None for one that is not stored, whose voxels have the fill value."""
        name, array = self.image.array.name(place), self.image.array
        if name not in self.fingerprints:
            return None
        data = _read(self.store, self.image.folder, name, self.fingerprints, array)
        if name not in self.digests:
            self.digests[name] = digest_bytes(data)
        try:
            return array.decode(data)
        except CaseError:
            raise
        except (RuntimeError, ValueError, zlib.error) as error:
            raise damaged("file_corrupt", "a chunk that cannot be decoded") from error

    def digest_rest(self) -> None:
        """Digest the objects of the level that were not needed."""
        for name in self.fingerprints.keys() - self.digests.keys():
            self.digests[name] = digest_object(self.store, join(self.image.folder, name))

    def inputs(self) -> tuple[InputDigest, ...]:
        image, now = self.image, version_of(self.fingerprints)
        root = digest_bytes(image.root_data)
        return (
            InputDigest(self.role, image.root_fingerprint.size, image.root_fingerprint.etag, root),
            InputDigest(
                f"{self.role}{VOXELS}", now.size, now.etag, digest_of_all(self.digests)
            ),
        )  # fmt: skip


def _as_XYZ(cut: npt.NDArray[Any], level: Level) -> Array:  # noqa: N802
    """Return voxels of the spatial axes in the order x, y, z."""
    ranked = sorted(axis for axis in level.space if axis is not None)
    order = [ranked.index(axis) for axis in level.space if axis is not None]
    turned = cut.transpose(order)
    return turned if len(order) == 3 else turned[:, :, None]


def _read(
    store: Store, folder: str, name: str, fingerprints: Mapping[str, Fingerprint], array: ZarrArray
) -> bytes:
    url, most = join(folder, name), 2 * array.chunk_bytes + 2**20
    if fingerprints[name].size > most:
        raise damaged("file_corrupt", f"a chunk of {fingerprints[name].size:,} bytes")
    data, now = store.read_with_fingerprint(url, 0, most)
    expect(url, now, {url: fingerprints[name]})
    return data


def _level(store: Store, url: str, level: int) -> tuple[str, bytes, Fingerprint, Level]:
    """Read the metadata of an image, of Zarr 3 or else 2."""
    for name in ("zarr.json", ".zattrs"):
        root = join(url, name)
        try:
            data, fingerprint = store.read_with_fingerprint(root, 0, _METADATA_BYTES)
        except CaseError as error:
            if error.code == "file_missing":
                continue
            raise
        with _as_fault():
            found = json.loads(data)
            attributes = found["attributes"]["ome"] if name == "zarr.json" else found
            return root, data, fingerprint, parse_level(attributes, level)
    raise damaged("not_ome_zarr", "a folder without metadata of an image")


def _image(store: Store, url: str, wanted: int) -> _Image:
    root, data, fingerprint, level = _level(store, url, wanted)
    folder = _folder(url, level)
    name = "zarr.json" if root.endswith("zarr.json") else ".zarray"
    try:
        array_data, array_fingerprint = store.read_with_fingerprint(
            join(folder, name), 0, _METADATA_BYTES
        )
    except CaseError as error:
        if error.code != "file_missing":
            raise
        raise damaged("file_truncated", "a level without its array") from error
    with _as_fault():
        array = parse_array(json.loads(array_data))
        if len(array.shape) != 3 - level.space.count(None) + len(level.beside):
            raise ValueError("other axes than the array")
    return _Image(
        root, data, fingerprint, folder, name, array_data, array_fingerprint, level, array
    )


def _folder(url: str, level: Level) -> str:
    return f"{join(url, level.path)}/"


@contextmanager
def _as_fault() -> Iterator[None]:
    """Take metadata that are none for a fault of the case."""
    try:
        yield
    except CaseError:
        raise
    except _WRONG as error:
        raise damaged("not_ome_zarr", "metadata with impossible values") from error


def _header(image: _Image, fingerprints: Mapping[str, Fingerprint], options: ReadOptions) -> Header:
    level, array = image.level, image.array
    space = [array.shape[axis] for axis in level.space if axis is not None]
    beside = [array.shape[axis] for axis in level.beside]
    if len(space) == 2 and max(beside, default=1) == 1:
        beside = []
    taken = select_axes([*space, *beside], options.axes)
    if len(space) == 2 and not taken.flat:
        raise damaged("not_3d", "an image without a z axis")
    header = Header(
        VoxelGrid.of(taken.spatial, level.affine), array.dtype, volumes=taken.volumes,
        first=taken.first, stored=taken.stored, flat=taken.flat, remarks=level.remarks,
    )  # fmt: skip
    check_size(header, options.most_bytes)
    return _held(header, array, fingerprints)


def _held(header: Header, array: ZarrArray, fingerprints: Mapping[str, Fingerprint]) -> Header:
    """Hold an array against the chunks that are stored."""
    names = map(array.name, np.ndindex(array.grid))
    sizes = [fingerprints[name].size for name in names if name in fingerprints]
    if not sizes:
        raise damaged("file_truncated", "an array of which no chunk is stored")
    size = array.codecs.size(array.chunks)
    if size is not None and set(sizes) != {size}:
        raise damaged("file_truncated", f"chunks of other sizes than {size:,} bytes")
    chunks = math.prod(array.grid)
    if len(sizes) == chunks:
        return header
    missing = chunks - len(sizes)
    remark = Remark(
        "chunks_not_stored", f"of which {missing:,} of {chunks:,} chunks are not stored",
        "every chunk, or only those left out that hold one value",
        "they are taken to hold the fill value, as Zarr has it",
    )  # fmt: skip
    return replace(header, remarks=(*header.remarks, remark))
