"""Headers by range requests: what a file claims, held against its size, before it is read."""

from dataclasses import dataclass

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.ledger import voxels_url
from unet_pipeline.storage.store import Store
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
_LONG_START = 2**17  # bytes that hold a header behind all that gzip may put before it
_GZIP_RATIO = 1032  # deflate cannot shrink further than 1032 : 1
_GZIP_SIZES = 2**32  # a gzip file names its size modulo this


@dataclass(frozen=True)
class Probe:
    """A header, and what it cost to read it, in bytes asked of the store."""

    header: NiftiHeader
    bytes_read: int


def read_start(store: Store, url: str) -> bytes:
    """Read the first bytes of a file: as many as its header needs."""
    start = store.read_range(url, 0, HEADER_BYTES)
    if len(start) < HEADER_BYTES or holds_header(start):
        return start
    return start + store.read_range(url, HEADER_BYTES, _LONG_START - HEADER_BYTES)


def probe_header(
    store: Store, url: str, form: Form | None = None, most_bytes: int = MOST_BYTES
) -> Probe:
    """Read a header by range requests, and hold its claims against the size of the file.

    A gzip file names its decompressed size in its last four bytes (RFC 1952). Only where that is
    not what the header promises (a file of several members, or one that is cut short) is the
    whole file decoded, without keeping it.

    Raises
    ------
    CaseError
        As ``parse_header`` and ``check_size``; ``pair_incomplete``; ``file_truncated``,
        ``file_corrupt`` or
        ``file_trailing_data`` for a file that does not hold just the voxels it claims.
    """
    voxels = voxels_url(store, url)
    start = read_start(store, url)
    header = parse_header(start, form, pair=voxels != url)
    promised, gzipped = header.offset + header.nbytes, _is_gzip(voxels, url, start)
    is_all_here = voxels == url and len(start) < HEADER_BYTES
    bytes_read, named_size = len(start), not gzipped
    if gzipped:
        tail = start[-4:] if is_all_here else store.read_tail(voxels, 4)
        bytes_read += 0 if is_all_here else len(tail)
        named_size = int.from_bytes(tail, "little") == promised % _GZIP_SIZES
        if named_size and promised < _GZIP_SIZES:
            check_size(header, most_bytes)
            return Probe(header, bytes_read)
    size = len(start) if is_all_here else store.fingerprint(voxels).size
    if promised > size * (_GZIP_RATIO if gzipped else 1):
        raise broken(
            "file_truncated",
            f"a file of {size:,} bytes whose header claims {header.nbytes:,} bytes of voxels",
        )
    check_size(header, most_bytes)
    if named_size:
        return Probe(header, bytes_read)
    with store.open(voxels) as file:
        check_whole(file, header)
    return Probe(header, bytes_read + size)


def check_size(header: NiftiHeader, most_bytes: int) -> None:
    """Refuse a volume by the size that its header claims, before anything of it is decoded.

    Raises
    ------
    CaseError
        ``volume_too_large``.
    """
    if header.nbytes > most_bytes:
        raise CaseError(
            "volume_too_large",
            found=f"a header that claims {' x '.join(map(str, header.grid.shape))} voxels, "
            f"{header.nbytes / 1e9:,.3g} GB",
            wanted=f"at most {most_bytes / 1e9:,.3g} GB",
            remedy="Look whether the header is right; if it is, raise --max-volume-gb",
        )


def _is_gzip(voxels: str, url: str, start: bytes) -> bool:
    return start[:2] == GZIP_MAGIC if voxels == url else voxels.lower().endswith(".gz")
