"""What tells one version of an object from another, without reading it."""

import os
import platform
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unet_pipeline.storage.urls import LOCAL, S3, protocol_of

_MACHINE = platform.node()
# What other file systems than S3 and local ones call the version of an object.
_VERSIONS = ("VersionId", "generation", "mtime", "LastModified", "last_modified", "created")


@dataclass(frozen=True)
class Fingerprint:
    """What a store says of one version of an object without reading it.

    Attributes
    ----------
    size
        Bytes.
    etag
        Changes whenever the content does; None where the store has no such mark (local files).
    version
        What else tells versions apart: the version id of a store that keeps versions; the time of
        the last change of a local file, in ns.
    place
        Machine and inode of a local file.
    """

    size: int
    etag: str | None
    version: str | None = None
    place: tuple[str, int] | None = None

    def is_of(self, other: "Fingerprint") -> bool:
        """Say whether both are of one version; inodes are compared on one machine only.

        Not every shared file system gives its clients the same inodes.
        """
        here, there = self.place, other.place
        elsewhere = here is not None and there is not None and here[0] != there[0]
        return replace(self, place=None) == replace(other, place=None) and (
            elsewhere or here == there
        )


def fingerprint_of(url: str, files: Any, path: str) -> Fingerprint:
    """Return what a file system says of the object at ``path``."""
    if protocol_of(url) == LOCAL:
        return local_fingerprint(Path(path))
    info = files.info(path)
    if info["type"] == "directory":
        raise FileNotFoundError(path)
    return of_info(protocol_of(url), info)


def local_fingerprint(path: Path) -> Fingerprint:
    """Return the version of a local file."""
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise FileNotFoundError(str(path))
    return fingerprint_of_stat(state)


def fingerprint_of_stat(state: os.stat_result) -> Fingerprint:
    """Return the version of a local file that was asked already."""
    return Fingerprint(state.st_size, None, str(state.st_mtime_ns), (_MACHINE, state.st_ino))


def of_info(protocol: str, info: dict[str, Any]) -> Fingerprint:
    """Return the version that a listing, or the answer to a read, names."""
    named = ("VersionId",) if protocol == S3 else _VERSIONS
    version = next((str(info[name]) for name in named if info.get(name)), None)
    return Fingerprint(int(info["size"]), strong_etag(info), version)


def strong_etag(info: dict[str, Any]) -> str | None:
    """Return the etag without its quotes; None for one that two contents may share."""
    etag = info.get("ETag") or info.get("etag")
    if not etag or str(etag).startswith("W/"):
        return None
    return str(etag).strip('"')
