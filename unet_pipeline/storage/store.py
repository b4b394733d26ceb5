"""One way to read, list and write, whatever the URL: object store, local folder or memory."""

import io
import logging
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from unet_pipeline.errors import CaseError, RequestError, has_secret
from unet_pipeline.storage.chunk_folders import fingerprints_below, is_folder, version_of
from unet_pipeline.storage.faults import (
    explained,
    keys_are_refused,
)
from unet_pipeline.storage.filesystems import StorageOptions, filesystem, forget
from unet_pipeline.storage.fingerprint import Fingerprint, fingerprint_of, of_info
from unet_pipeline.storage.formats import is_volume_folder
from unet_pipeline.storage.listing import list_one, list_pages, list_wanted
from unet_pipeline.storage.local import is_part, prune, walk
from unet_pipeline.storage.objects import (
    Data,
    Over,
    parts_of,
    put_object,
    read_with_fingerprint,
    size_of,
)
from unet_pipeline.storage.reading import explained_file
from unet_pipeline.storage.s3 import PreconditionFailedError, service_code
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

__all__ = ["StorageOptions", "Store", "basename", "join", "relative_to"]

logger = logging.getLogger(__name__)

_READ_BLOCK = 8 * 2**20  # bytes fetched at a time by an open file
_T = TypeVar("_T")


@dataclass(frozen=True)
class Store:
    """Reads and writes whole objects at full URLs. Cheap to make, and can be pickled.

    Every method raises ``RequestError`` for what concerns all cases (``bucket_missing``,
    ``access_denied`` for refused keys, ``credentials_missing``, ``profile_unknown``,
    ``region_wrong``, ``endpoint_invalid``, ``certificate_unknown``, ``ca_bundle_invalid``,
    ``protocol_unknown``, ``url_invalid``, ``url_secret``). Methods on one object raise
    ``CaseError`` for the rest: ``file_missing``, ``access_denied``, ``object_archived``,
    ``name_too_long``, ``output_full``, ``read_only``, ``output_changed`` and ``storage_failed``, of
    which only the last is worth trying again.

    Keys that the store refuses are asked for once more before they are called refused: a profile,
    a web identity or a credential process may have new ones.
    """

    options: StorageOptions = field(default_factory=StorageOptions)

    def read(self, url: str) -> bytes:
        """Return the whole object, from a single request (never a mixture of two versions)."""
        alone = {"max_concurrency": 1} if protocol_of(url) == S3 else {}
        return self._do(url, lambda files, path: bytes(files.cat_file(path, **alone)))

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
        return self.read_with_fingerprint(url, start, length)[0][:length]

    def read_tail(self, url: str, length: int) -> bytes:
        """Return the last ``length`` bytes, in one request that need not know the size."""
        return self.read_with_fingerprint(url, -length, length)[0]

    def read_with_fingerprint(self, url: str, start: int, length: int) -> tuple[bytes, Fingerprint]:
        """Return a range of an object, and which version of it that is.

        Parameters
        ----------
        start
            First byte; below 0 it is counted from the end.
        """
        return self._do(
            url, lambda files, path: read_with_fingerprint(url, files, path, start, length)
        )

    def open(self, url: str) -> BinaryIO:
        """Open an object for reading in order or by seeking, some MiB at a time.

        Reading an object that is replaced meanwhile raises ``input_changed``.
        """
        if protocol_of(url) == "memory":
            return io.BytesIO(self.read(url))
        raw = self._open(url)
        again = self._open if protocol_of(url) == S3 else None
        return explained_file(raw, url, again)

    def _open(self, url: str) -> BinaryIO:
        def act(files: Any, path: str) -> BinaryIO:
            return cast(BinaryIO, files.open(path, "rb", block_size=_READ_BLOCK))

        return self._do(url, act)

    def write(self, url: str, data: Data, over: Over = "anything") -> Fingerprint:
        """Store ``data`` at ``url`` in one step: a reader sees the old object or all of the new.

        Parameters
        ----------
        over
            What may be there: the version that was seen, None for nothing, or ``"anything"``. Local
            files are compared at the last moment; S3 is asked to (If-Match, If-None-Match), and a
            store that does not know these conditions is asked for the version just before.

        Returns
        -------
        Fingerprint
            Of what was written; without an etag if the store gave none for these very bytes.

        Raises
        ------
        CaseError
            ``output_changed`` if something else is there; ``storage_failed`` also if the object
            then has another size.
        """
        if over != "anything" and protocol_of(url) != LOCAL and self.find(url) != over:
            raise _changed(url)
        etag = self.put(url, data, over)
        wanted, stored = size_of(data), self.fingerprint(url)
        if stored.size != wanted:
            raise CaseError(
                "storage_failed",
                subject=redact(url),
                found=f"{stored.size} bytes after writing",
                wanted=f"{wanted} bytes",
                remedy="Try again, and check the store's free space",
            )
        return stored if stored.etag == etag else Fingerprint(wanted, etag)

    def put(self, url: str, data: Data, over: Over) -> str | None:
        """Store ``data`` as ``write`` does, and return its etag if it is said.

        In one request, or in parts of which the last makes an object. What may be there is left to
        the store, which may know no conditions (``conditions.py``).
        """
        try:
            return self._do(url, lambda files, path: put_object(url, files, path, data, over))
        except PreconditionFailedError as error:
            etag = self._etag_of_mine(url, data)
            if etag is None:
                raise _changed(url) from error
            return etag

    def _etag_of_mine(self, url: str, data: Data) -> str | None:
        """Return the etag of an object that holds just ``data``, or None.

        A PUT that is sent again, because the answer was lost, meets its own object.
        """
        there = self.find(url)
        if there is None or there.size != size_of(data):
            return None
        with self.open(url) as file:
            same = all(file.read(len(part)) == part for part in parts_of(data))
        return there.etag if same else None

    def find(self, url: str) -> Fingerprint | None:
        """Return the version of the object at ``url``, or None if there is none."""
        try:
            return self.fingerprint(url)
        except CaseError as error:
            if error.code == "file_missing":
                return None
            raise

    def remove(self, url: str) -> None:
        """Remove an object; nothing happens if there is none."""

        def act(files: Any, path: str) -> None:
            with suppress(FileNotFoundError):
                files.rm_file(path)

        self._do(url, act)

    def prune(self, url: str) -> None:
        """Remove a local folder, and those below it, as far as they are empty.

        Other stores have no folders of their own.
        """
        if protocol_of(url) == LOCAL:
            self._do(url, lambda _, path: prune(Path(path)))

    def exists(self, url: str) -> bool:
        """Say whether there is an object, or a folder or prefix that holds some."""
        return self._do(url, _info) is not None

    def fingerprint(self, url: str) -> Fingerprint:
        """Return size, etag and version of an object, or of a folder (URL with a slash behind)."""
        if is_folder(url):
            return version_of(self.objects_below(url))
        return self._do(url, lambda files, path: fingerprint_of(url, files, path))

    def objects_below(self, url: str) -> dict[str, Fingerprint]:
        """Return the version of each object of a folder, by its name below it."""
        return self._do(url, lambda files, path: fingerprints_below(url, files, path))

    def versions_below(
        self, url: str, wanted: Callable[[str], bool], expected: Collection[str] = ()
    ) -> dict[str, Fingerprint]:
        """Return the version of each object below a prefix whose canonical URL is wanted.

        S3 is listed page by page, and what is not wanted is not kept: for a hundred thousand.

        Parameters
        ----------
        expected
            Canonical URLs of objects that are likely to be there: many are listed in ranges.
        """
        protocol = protocol_of(url)

        def act(files: Any, path: str) -> dict[str, Fingerprint]:
            if protocol == S3:
                names = [one.removeprefix(f"{S3}://") for one in expected]
                found = list_wanted(files, path, lambda name: wanted(f"{S3}://{name}"), names)
                return {f"{S3}://{name}": version for name, version in found.items()}
            named = ((_full_url(protocol, name), info)
                     for name, info in files.find(path, detail=True).items())  # fmt: skip
            return {name: of_info(protocol, info) for name, info in named if wanted(name)}

        return self._do(url, act, request=True)

    def is_folder(self, url: str) -> bool:
        """Say whether ``url`` is a folder, or a prefix with objects below it."""
        info = self._do(url, _info)
        return info is not None and info["type"] == "directory"

    def is_pattern(self, url: str) -> bool:
        """Say whether ``url`` is a glob; a name with a wildcard in it that exists is none."""
        return has_wildcard(url) and not self.exists(url)

    def list_files(self, url: str) -> list[str]:
        """Return the canonical URLs of all files below a prefix or folder, of a glob, or of a file.

        ``*`` and ``?`` stay within one part of the path, ``**`` stands for any number of parts.
        A glob also gives folders that are volumes by their names.
        Empty if there are none; sorted.
        """

        def act(files: Any, path: str) -> list[str]:
            if has_wildcard(url) and _info(files, path) is None:
                found = files.glob(path, detail=True)
                return [
                    name
                    for name, info in found.items()
                    if info["type"] != "directory" or is_volume_folder(name)
                ]
            if protocol_of(url) == LOCAL:
                return [str(file) for file in walk(Path(path))]
            if protocol_of(url) == S3 and (found := [name for name, _ in list_pages(files, path)]):
                return found
            return list(files.find(path))

        names = self._do(url, act, request=True)
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

        def act(files: Any, path: str) -> None:
            if protocol_of(url) == S3:
                list_one(files, path)
            elif protocol_of(url) == LOCAL:
                Path(path).stat()
            else:
                files.exists(path)

        self._do(fixed_part(url), act, request=True)

    def check_writable(self, url: str) -> None:
        """Write a small probe below ``url`` and remove it.

        Raises
        ------
        RequestError
            As ``check_reachable``; ``not_writable`` for stores that can only be read;
            ``output_is_file`` where a local file stands in the way.
        """
        probe = join(url, f".unet-pipeline-{secrets.token_hex(8)}.probe")

        def act(files: Any, path: str) -> None:
            try:
                put_object(url, files, path, b"probe", "anything")
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

        self._do(probe, act, request=True)

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
        if protocol_of(url) == S3 and "//" in f"/{canonical(url).removeprefix('s3://')}":
            raise RequestError(
                "url_invalid",
                subject=redact(url),
                found="a URL with an empty part (two slashes, or no bucket)",
                wanted="a URL like s3://bucket/prefix",
                remedy="Leave one slash between its parts",
            )
        files = filesystem(protocol_of(url), self.options)
        return files, files._strip_protocol(canonical(url))

    def _do(self, url: str, act: Callable[[Any, str], _T], *, request: bool = False) -> _T:
        """Call ``act`` with the file system of ``url`` and its path there.

        Once more with a new session, and the keys that it finds, where the store refuses those
        that we have.
        """
        with explained(url, request=request):
            files, path = self._locate(url)
            try:
                return act(files, path)
            except OSError as error:
                if protocol_of(url) != S3:
                    raise
                told = _told(files, path, error)
                if not keys_are_refused(told):
                    raise told from told.__cause__
            forget(files)
            files, path = self._locate(url)
            try:
                return act(files, path)
            except OSError as error:
                told = _told(files, path, error)
                raise told from told.__cause__


def _info(files: Any, path: str) -> dict[str, Any] | None:
    try:
        info: dict[str, Any] = files.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return info


def _told(files: Any, path: str, error: OSError) -> OSError:
    """Return what is wrong: the answer to a HEAD has no body, that to a listing has one."""
    if isinstance(error, PermissionError) or service_code(error) in {"301", "400"}:
        try:
            list_one(files, path)
        except OSError as better:
            return better
    return error


def _changed(url: str) -> CaseError:
    return CaseError(
        "output_changed",
        subject=redact(url),
        found="a file that came, or was changed, while this case was under way",
        wanted="one run at a time that writes it",
        remedy="Wait until no other run or program writes there, then run again",
    )


def _full_url(protocol: str, name: str) -> str:
    if protocol == LOCAL or "://" in name:
        return name
    return f"{protocol}://{name.lstrip('/')}"
