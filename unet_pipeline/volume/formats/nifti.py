"""NIfTI: headers by range requests, held against the size of the file, and voxels as a stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

import numpy.typing as npt

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.formats import (
    half_a_pair,
    is_pair_header,
    is_pair_voxels,
    voxel_files,
)
from unet_pipeline.storage.label_maps import Content, Objects
from unet_pipeline.storage.ledger import DigestingReader, digest_bytes
from unet_pipeline.storage.sidecar import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions, expect, one_version
from unet_pipeline.volume.formats.nifti_header import (
    HEADER_BYTES,
    broken,
    fields_of,
    holds_header,
    parse_header,
)
from unet_pipeline.volume.formats.nifti_voxels import (
    GZIP_MAGIC,
    Members,
    check_whole,
    encode_labels,
    read_slabs,
)
from unet_pipeline.volume.formats.protocol import (
    NO_LEGEND,
    VOXELS,
    Legend,
    ProbeResult,
    Reader,
    ReadOptions,
    Slabs,
    Writer,
    check_size,
)
from unet_pipeline.volume.header import Header

LEADING_BYTES = 64 * 2**20  # of header and extensions, that are skipped before the voxels
ENCODED_BYTES = 96 * 2**20  # of voxels that are encoded once, and not for digest and write
_LONG_START = 2**17  # bytes that hold a header behind all that gzip may put before it
_GZIP_RATIO = 1032  # deflate cannot shrink further than 1032 : 1
_GZIP_SIZES = 2**32  # a gzip file names its size modulo this


class Nifti:
    """Single files (.nii, .nii.gz), and pairs of a header (.hdr) and its voxels (.img)."""

    def objects(self, store: Store, url: str, level: int) -> dict[str, str]:
        """Return the file, or both of a pair."""
        return {"": url} | ({VOXELS: _voxels_url(store, url)} if is_pair_header(url) else {})

    def probe(self, store: Store, url: str, options: ReadOptions) -> ProbeResult:
        """Read a header by range requests, and hold its claims against the size of the file."""
        return _probe(store, url, options)

    @contextmanager
    def open(
        self, store: Store, url: str, options: ReadOptions, role: str, versions: Versions
    ) -> Iterator["_Open"]:
        """Open a file, and digest what is read of it."""
        voxels = _voxels_url(store, url)
        start, fingerprint = read_start(store, url)
        fingerprints = (
            {url: fingerprint}
            if voxels == url
            else {url: fingerprint, voxels: store.fingerprint(voxels)}
        )
        for each, now in fingerprints.items():
            expect(each, now, versions)
        alone = voxels == url
        before = () if alone else (_digest_small(store, url, role, fingerprints),)
        header = parse_header(start, options.form, pair=not alone, axes=options.axes)
        _check_claims(header, options.most_bytes)
        with (
            one_version(store, voxels, fingerprints),
            store.open(voxels) as file,
            DigestingReader(file) as hashed,
        ):
            name = role if alone else f"{role}{VOXELS}"
            yield _Open(
                header, hashed, before, InputDigest(name, *_size_and_etag(fingerprints[voxels]), "")
            )

    def check(self, header: Header) -> None:
        """Take any place: a header has room for every affine."""

    def encode(
        self, values_XYZ: npt.NDArray[Any], like: Header, legend: Legend = NO_LEGEND
    ) -> Objects:
        """Return a ``.nii.gz`` file."""
        return [("", encoded(values_XYZ, like))]


def encoded(values_XYZ: npt.NDArray[Any], like: Header, slope: float = 1.0) -> Content:
    """Return the file of ``encode_labels``; of a large volume member by member."""
    if values_XYZ.nbytes > ENCODED_BYTES:
        return Members(values_XYZ, like, slope)
    return encode_labels(values_XYZ, like, slope)


READER: Reader = Nifti()
WRITER: Writer = Nifti()


@dataclass(frozen=True)
class _Open:
    header: Header
    stream: DigestingReader
    before: tuple[InputDigest, ...]  # of the header of a pair
    last: InputDigest  # whose digest is known once all is read

    def slabs(self, target_XYZ: npt.NDArray[Any] | None, depth: int, most_bytes: int) -> Slabs:
        """Decode straight into ``target_XYZ``, or into slabs of ``depth`` slices."""
        stream = cast(BinaryIO, self.stream)
        if target_XYZ is not None:
            return read_slabs(stream, self.header, target_XYZ=target_XYZ)
        x, y, _ = self.header.grid.shape
        return read_slabs(stream, self.header, depth * x * y * self.header.dtype.itemsize)

    def inputs(self) -> tuple[InputDigest, ...]:
        return (*self.before, replace(self.last, sha256=self.stream.digest))


def _size_and_etag(seen: Fingerprint) -> tuple[int, str | None]:
    return seen.size, seen.etag


def read_start(store: Store, url: str) -> tuple[bytes, Fingerprint]:
    """Read the first bytes of a file: as many as its header needs, of one version."""
    start, fingerprint = store.read_with_fingerprint(url, 0, HEADER_BYTES)
    if len(start) < HEADER_BYTES or holds_header(start):
        return start, fingerprint
    more, again = store.read_with_fingerprint(url, HEADER_BYTES, _LONG_START - HEADER_BYTES)
    expect(url, again, {url: fingerprint})
    return start + more, fingerprint


def _probe(store: Store, url: str, options: ReadOptions) -> ProbeResult:
    """Read a header, and hold it against the size of the file.

    A gzip file names its decompressed size in its last four bytes (RFC 1952). Only where that is
    not what the header promises (a file of several members, or one that is cut short) is the
    whole file decoded, without keeping it.

    Raises
    ------
    CaseError
        As ``parse_header`` and ``_check_claims``; ``pair_incomplete``; ``file_truncated``,
        ``file_corrupt`` or ``file_trailing_data`` for a file that does not hold just the voxels
        it claims; ``input_changed`` for one that is replaced meanwhile.
    """
    voxels = _voxels_url(store, url)
    start, fingerprint = read_start(store, url)
    versions = {url: fingerprint}
    header = parse_header(start, options.form, pair=voxels != url, axes=options.axes)
    promised = fields_of(header).offset + header.stored_bytes
    gzipped = _is_gzip(voxels, url, start)
    is_all_here = voxels == url and len(start) < HEADER_BYTES
    bytes_read, named_size = len(start), not gzipped
    if gzipped:
        tail, fingerprint = (
            (start[-4:], fingerprint) if is_all_here else store.read_with_fingerprint(voxels, -4, 4)
        )
        expect(voxels, fingerprint, versions)
        versions[voxels] = fingerprint
        bytes_read += 0 if is_all_here else len(tail)
        named_size = int.from_bytes(tail, "little") == promised % _GZIP_SIZES
        if named_size and promised < _GZIP_SIZES:
            _check_claims(header, options.most_bytes)
            return ProbeResult(header, bytes_read, versions)
    if voxels not in versions:
        versions[voxels] = store.fingerprint(voxels)
    size = len(start) if is_all_here else versions[voxels].size
    if promised > size * (_GZIP_RATIO if gzipped else 1):
        raise broken(
            "file_truncated",
            f"a file of {size:,} bytes whose header claims {header.stored_bytes:,} bytes of voxels",
        )
    _check_claims(header, options.most_bytes)
    if named_size:
        return ProbeResult(header, bytes_read, versions)
    with one_version(store, voxels, versions), store.open(voxels) as file:
        check_whole(file, header)
    return ProbeResult(header, bytes_read + size, versions)


def _check_claims(header: Header, most_bytes: int) -> None:
    """Raise ``voxels_too_far`` for voxels that begin far behind the header, or as check_size."""
    offset = fields_of(header).offset
    if offset > LEADING_BYTES:
        raise CaseError(
            "voxels_too_far",
            found=f"a header that says its voxels begin after {offset:,} bytes (vox_offset)",
            wanted=f"at most {LEADING_BYTES:,}, for header and extensions",
            remedy="Write the file anew without its extensions, or replace it by a sound copy",
        )
    check_size(header, most_bytes)


def _voxels_url(store: Store, url: str) -> str:
    """Return the file that holds the voxels of a volume: ``url``, or its partner in a pair.

    Raises
    ------
    CaseError
        ``pair_incomplete`` if one of the two files is not there.
    """
    files = voxel_files(url)
    there = (file for file in files if len(files) == 1 or store.exists(file))
    found = None if is_pair_voxels(url) else next(there, None)
    if found is None:
        raise half_a_pair(url)
    return found


def _digest_small(store: Store, url: str, role: str, fingerprints: Versions) -> InputDigest:
    fingerprint = fingerprints[url]
    with one_version(store, url, fingerprints):
        return InputDigest(role, fingerprint.size, fingerprint.etag, digest_bytes(store.read(url)))


def _is_gzip(voxels: str, url: str, start: bytes) -> bool:
    return start[:2] == GZIP_MAGIC if voxels == url else voxels.lower().endswith(".gz")
