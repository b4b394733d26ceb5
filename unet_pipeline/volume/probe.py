"""Headers by range requests: what a file claims, held against its size, before it is read."""

from dataclasses import dataclass

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.ledger import voxels_url
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions, expect, one_version
from unet_pipeline.volume.axes import XYZ, Axes
from unet_pipeline.volume.forms import Form
from unet_pipeline.volume.nifti import GZIP_MAGIC, check_whole
from unet_pipeline.volume.nifti_header import (
    HEADER_BYTES,
    NiftiHeader,
    broken,
    holds_header,
    parse_header,
)

MOST_BYTES = 64 * 10**9  # decoded, of one volume, unless a request says otherwise
LEADING_BYTES = 64 * 2**20  # of header and extensions, that are skipped before the voxels
_LONG_START = 2**17  # bytes that hold a header behind all that gzip may put before it
_GZIP_RATIO = 1032  # deflate cannot shrink further than 1032 : 1
_GZIP_SIZES = 2**32  # a gzip file names its size modulo this


@dataclass(frozen=True)
class Probe:
    """A header, which versions of its files were read, and how many bytes of them."""

    header: NiftiHeader
    bytes_read: int
    versions: Versions


def read_start(store: Store, url: str) -> tuple[bytes, Fingerprint]:
    """Read the first bytes of a file: as many as its header needs, of one version."""
    start, mark = store.read_marked(url, 0, HEADER_BYTES)
    if len(start) < HEADER_BYTES or holds_header(start):
        return start, mark
    more, again = store.read_marked(url, HEADER_BYTES, _LONG_START - HEADER_BYTES)
    expect(url, again, {url: mark})
    return start + more, mark


def probe_header(
    store: Store,
    url: str,
    form: Form | None = None,
    most_bytes: int = MOST_BYTES,
    axes: Axes = XYZ,
) -> Probe:
    """Read a header by range requests, and hold its claims against the size of the file.

    A gzip file names its decompressed size in its last four bytes (RFC 1952). Only where that is
    not what the header promises (a file of several members, or one that is cut short) is the
    whole file decoded, without keeping it.

    Raises
    ------
    CaseError
        As ``parse_header`` and ``check_size``; ``pair_incomplete``; ``file_truncated``,
        ``file_corrupt`` or ``file_trailing_data`` for a file that does not hold just the voxels
        it claims; ``input_changed`` for one that is replaced meanwhile.
    """
    voxels = voxels_url(store, url)
    start, mark = read_start(store, url)
    seen = {url: mark}
    header = parse_header(start, form, pair=voxels != url, axes=axes)
    promised, gzipped = header.offset + header.stored_bytes, _is_gzip(voxels, url, start)
    is_all_here = voxels == url and len(start) < HEADER_BYTES
    bytes_read, named_size = len(start), not gzipped
    if gzipped:
        tail, mark = (start[-4:], mark) if is_all_here else store.read_marked(voxels, -4, 4)
        expect(voxels, mark, seen)
        seen[voxels] = mark
        bytes_read += 0 if is_all_here else len(tail)
        named_size = int.from_bytes(tail, "little") == promised % _GZIP_SIZES
        if named_size and promised < _GZIP_SIZES:
            check_size(header, most_bytes)
            return Probe(header, bytes_read, seen)
    if voxels not in seen:
        seen[voxels] = store.fingerprint(voxels)
    size = len(start) if is_all_here else seen[voxels].size
    if promised > size * (_GZIP_RATIO if gzipped else 1):
        raise broken(
            "file_truncated",
            f"a file of {size:,} bytes whose header claims {header.stored_bytes:,} bytes of voxels",
        )
    check_size(header, most_bytes)
    if named_size:
        return Probe(header, bytes_read, seen)
    with one_version(store, voxels, seen), store.open(voxels) as file:
        check_whole(file, header)
    return Probe(header, bytes_read + size, seen)


def check_size(header: NiftiHeader, most_bytes: int) -> None:
    """Refuse a volume by what its header claims, before anything of it is decoded.

    Raises
    ------
    CaseError
        ``volume_too_large``; ``voxels_too_far`` for voxels that begin far behind the header.
    """
    if header.offset > LEADING_BYTES:
        raise CaseError(
            "voxels_too_far",
            found=f"a header that says its voxels begin after {header.offset:,} bytes (vox_offset)",
            wanted=f"at most {LEADING_BYTES:,}, for header and extensions",
            remedy="Write the file anew without its extensions, or replace it by a sound copy",
        )
    if header.stored_bytes > most_bytes:
        raise CaseError(
            "volume_too_large",
            found=f"a header that claims {' x '.join(map(str, header.grid.shape))} voxels, "
            f"{header.stored_bytes / 1e9:,.3g} GB",
            wanted=f"at most {most_bytes / 1e9:,.3g} GB",
            remedy="Look whether the header is right; if it is, raise --max-volume-gb",
        )


def _is_gzip(voxels: str, url: str, start: bytes) -> bool:
    return start[:2] == GZIP_MAGIC if voxels == url else voxels.lower().endswith(".gz")
