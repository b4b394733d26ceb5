"""One way to read, list and write, whatever the URL: object store, local folder or memory."""

import io
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from unet_pipeline.errors import CaseError, RequestError, has_secret
from unet_pipeline.storage.faults import explained, is_past_end
from unet_pipeline.storage.filesystems import StorageOptions, filesystem
from unet_pipeline.storage.local import is_part, walk, write_atomically
from unet_pipeline.storage.urls import (
    LOCAL,
    S3,
    basename,
    canonical,
    fixed_part,
    has_wildcard,
    join,
    protocol_of,
    redact,
    relative_to,
)

__all__ = ["Fingerprint", "StorageOptions", "Store", "basename", "join", "relative_to"]

logger = logging.getLogger(__name__)

# Bytes fetched at a time by an open file, and the largest object that is sent as one PUT is
# twice the second number (s3fs); larger ones are sent in parts, which is atomic too.
_READ_BLOCK = 8 * 2**20
_PUT_PART = 256 * 2**20


@dataclass(frozen=True)
class Fingerprint:
    """What a store says of an object without reading it.

    Attributes
    ----------
    size
        Bytes.
    etag
        Changes whenever the content does; None where the store has no such mark (local files).
    """

    size: int
    etag: str | None


@dataclass(frozen=True)
class Store:
    """Reads and writes whole objects at full URLs. Cheap to make, and can be pickled.

    Every method raises ``RequestError`` for what concerns all cases (``bucket_missing``,
    ``access_denied`` for refused keys, ``credentials_missing``, ``profile_unknown``,
    ``endpoint_invalid``, ``certificate_unknown``, ``ca_bundle_invalid``, ``protocol_unknown``,
    ``url_invalid``, ``url_secret``). Methods on one object raise
    ``CaseError`` for the rest: ``file_missing``, ``access_denied`` and ``storage_failed``, of which
    only the last is worth trying again.
    """

    options: StorageOptions = field(default_factory=StorageOptions)

    def read(self, url: str) -> bytes:
        """Return the whole object, from a single request (never a mixture of two versions)."""
        with self._at(url) as (files, path):
            alone = {"max_concurrency": 1} if protocol_of(url) == S3 else {}
            return bytes(files.cat_file(path, **alone))

    def read_at_most(self, url: str, length: int) -> bytes:
        """Return the whole object, and never more than ``length`` bytes of it.

        Raises
        ------
        CaseError
            ``file_too_large``.
        """
        data = self.read_range(url, 0, length + 1)
        if len(data) > length:
            raise CaseError(
                "file_too_large",
                subject=redact(url),
                found=f"more than {length:,} bytes",
                wanted="a file of its kind",
                remedy="Look whether it is the right file",
            )
        return data

    def read_range(self, url: str, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``start``; fewer where the object ends."""
        if length <= 0:
            return b""
        with self._at(url) as (files, path):
            try:
                data = bytes(files.cat_file(path, start=start, end=start + length))
            except OSError as error:
                if is_past_end(error):
                    return b""
                raise
        return data[:length]

    def read_tail(self, url: str, length: int) -> bytes:
        """Return the last ``length`` bytes, in one request that need not know the size."""
        with self._at(url) as (files, path):
            return bytes(files.cat_file(path, start=-length))

    def open(self, url: str) -> BinaryIO:
        """Open an object for reading in order or by seeking, some MiB at a time."""
        with self._at(url) as (files, path):
            if protocol_of(url) == "memory":
                return io.BytesIO(files.cat_file(path))
            raw = files.open(path, "rb", block_size=_READ_BLOCK)
        return cast(BinaryIO, io.BufferedReader(_ExplainedFile(raw, url), 2**20))

    def write(self, url: str, data: bytes | bytearray | memoryview) -> None:
        """Store ``data`` at ``url`` in one step: a reader sees the old object or all of the new.

        Raises
        ------
        CaseError
            ``storage_failed`` also if the object then has another size.
        """
        with self._at(url) as (files, path):
            _put(protocol_of(url), files, path, data)
            stored = files.info(path)["size"]
        wanted = memoryview(data).nbytes
        if stored != wanted:
            raise CaseError(
                "storage_failed",
                subject=redact(url),
                found=f"{stored} bytes after writing",
                wanted=f"{wanted} bytes",
                remedy="Try again, and check the store's free space",
            )

    def remove(self, url: str) -> None:
        """Remove an object; nothing happens if there is none."""
        with self._at(url) as (files, path), suppress(FileNotFoundError):
            files.rm_file(path)

    def exists(self, url: str) -> bool:
        """Say whether there is an object, or a folder or prefix that holds some."""
        with self._at(url) as (files, path):
            return _info(files, path) is not None

    def fingerprint(self, url: str) -> Fingerprint:
        """Return size and etag of an object."""
        with self._at(url) as (files, path):
            info = files.info(path)
            if info["type"] == "directory":
                raise FileNotFoundError(path)
        return Fingerprint(int(info["size"]), _strong_etag(info))

    def is_folder(self, url: str) -> bool:
        """Say whether ``url`` is a folder, or a prefix with objects below it."""
        with self._at(url) as (files, path):
            info = _info(files, path)
        return info is not None and info["type"] == "directory"

    def is_pattern(self, url: str) -> bool:
        """Say whether ``url`` is a glob; a name with a wildcard in it that exists is none."""
        return has_wildcard(url) and not self.exists(url)

    def list_files(self, url: str) -> list[str]:
        """Return the canonical URLs of all files below a prefix or folder, of a glob, or of a file.

        ``*`` and ``?`` stay within one part of the path, ``**`` stands for any number of parts.
        Empty if there are none; sorted.
        """
        with self._at(url, request=True) as (files, path):
            if has_wildcard(url) and _info(files, path) is None:
                found = files.glob(path, detail=True)
                names = [name for name, info in found.items() if info["type"] != "directory"]
            elif protocol_of(url) == LOCAL:
                names = [str(file) for file in walk(Path(path))]
            else:
                names = files.find(path)
        kept = (name for name in names if not name.endswith("/") and not is_part(basename(name)))
        return sorted(_full_url(protocol_of(url), name) for name in kept)

    def check_reachable(self, url: str) -> None:
        """Ask the store for one name, before any work starts.

        Raises
        ------
        RequestError
            ``bucket_missing``, ``folder_missing`` (local), ``access_denied``,
            ``credentials_missing``, ``endpoint_unreachable`` and the others of this class.
        """
        place = fixed_part(url)
        with explained(url, request=True):
            files, path = self._locate(place)
            if protocol_of(url) == S3:
                _list_one(files, path)
            elif protocol_of(url) == LOCAL:
                Path(path).stat()
            else:
                files.exists(path)

    def check_writable(self, url: str) -> None:
        """Write a small probe below ``url`` and remove it.

        Raises
        ------
        RequestError
            As ``check_reachable``; ``not_writable`` for stores that can only be read;
            ``output_is_file`` where a local file stands in the way.
        """
        probe = join(url, f".unet-pipeline-{secrets.token_hex(8)}.probe")
        with explained(url, request=True):
            files, path = self._locate(probe)
            try:
                _put(protocol_of(url), files, path, b"probe")
            except (FileExistsError, NotADirectoryError) as error:
                raise RequestError(
                    "output_is_file",
                    subject=redact(url),
                    found="a file of that name, or above it",
                    wanted="a folder, which may be new",
                    remedy="Use another output, or move the file",
                ) from error
            try:
                files.rm_file(path)
            except PermissionError:
                logger.warning("the keys may write but not remove: %s stays", redact(probe))

    def _locate(self, url: str) -> tuple[Any, str]:
        """Return the file system of ``url`` and its path there."""
        if has_secret(url):
            raise RequestError(
                "url_secret",
                subject=redact(url),
                found="a URL that carries a password or a signature",
                wanted="a plain URL: it stands in logs, sidecars and reports",
                remedy="Take keys from AWS variables or a profile",
            )
        files = filesystem(protocol_of(url), self.options)
        return files, files._strip_protocol(canonical(url))

    @contextmanager
    def _at(self, url: str, *, request: bool = False) -> Iterator[tuple[Any, str]]:
        with explained(url, request=request):
            files, path = self._locate(url)
            try:
                yield files, path
            except PermissionError:
                # The answer to a HEAD has no body: a listing says whether the keys are refused.
                if protocol_of(url) == S3:
                    _list_one(files, path)
                raise


class _ExplainedFile(io.RawIOBase):
    """A file whose faults while reading are said as our own errors."""

    def __init__(self, raw: BinaryIO, url: str) -> None:
        self._raw, self._url = raw, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._raw.seekable()

    def readinto(self, buffer: Any) -> int:
        with explained(self._url):
            data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()
        super().close()


def _info(files: Any, path: str) -> dict[str, Any] | None:
    try:
        info: dict[str, Any] = files.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return info


def _put(protocol: str, files: Any, path: str, data: bytes | bytearray | memoryview) -> None:
    if protocol == LOCAL:
        write_atomically(Path(path), data)
        return
    whole = data if isinstance(data, bytes | bytearray) else bytes(data)
    files.pipe_file(path, whole, **({"chunksize": _PUT_PART} if protocol == S3 else {}))


def _list_one(files: Any, path: str) -> None:
    bucket, key, _ = files.split_path(path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)


def _strong_etag(info: dict[str, Any]) -> str | None:
    etag = info.get("ETag") or info.get("etag")
    if not etag or str(etag).startswith("W/"):
        return None
    return str(etag).strip('"')


def _full_url(protocol: str, name: str) -> str:
    if protocol == LOCAL or "://" in name:
        return name
    return f"{protocol}://{name.lstrip('/')}"
