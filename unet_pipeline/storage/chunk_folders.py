"""Folders of objects that are one: a URL that ends with a slash stands for all that lies below it.

So the level of an image in chunks has a version and a digest as a file has.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_pipeline.storage.fingerprint import Fingerprint, fingerprint_of_stat, of_info
from unet_pipeline.storage.local import NotRegularError, is_part
from unet_pipeline.storage.urls import LOCAL, protocol_of


def is_folder(url: str) -> bool:
    """Say whether a URL stands for a folder of objects."""
    return url.endswith("/")


def fingerprints_below(url: str, files: Any, path: str) -> dict[str, Fingerprint]:
    """Return all objects below a folder by their names there, each with its version.

    Raises
    ------
    FileNotFoundError
        If there are none.
    NotRegularError
        For a local link, a pipe, a device or a socket among them: a folder that is one volume
        holds its own bytes.
    """
    if protocol_of(url) == LOCAL:
        found = _local(Path(path))
    else:
        known = files.find(path, detail=True)
        names = {name: _below(name, path) for name in known}
        found = {
            below: of_info(protocol_of(url), known[name])
            for name, below in names.items()
            if below and not below.endswith("/")
        }
    if not found:
        raise FileNotFoundError(path)
    return found


def version_of(fingerprints: Mapping[str, Fingerprint]) -> Fingerprint:
    """Return the version of a folder: of the names, sizes and versions of all its objects."""
    etags = {
        name: fingerprint.etag
        for name, fingerprint in fingerprints.items()
        if fingerprint.etag is not None
    }
    complete = len(etags) == len(fingerprints)
    versions = {
        name: f"{fingerprint.size} {fingerprint.version}"
        for name, fingerprint in fingerprints.items()
    }
    return Fingerprint(
        sum(fingerprint.size for fingerprint in fingerprints.values()),
        _hash_of(etags) if complete else None,
        _hash_of(versions),
    )


def digest_of_all(digests: Mapping[str, str]) -> str:
    """Return the digest of a folder from the digests of its objects by their names."""
    return f"sha256:{_hash_of(digests)}"


def _hash_of(said: Mapping[str, str | None]) -> str:
    lines = (f"{name!a} {said[name]}\n" for name in sorted(said))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _below(name: str, path: str) -> str:
    return name.removeprefix(path.rstrip("/")).lstrip("/")


def _local(root: Path) -> dict[str, Fingerprint]:
    found, pending = {}, [str(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    raise NotRegularError("a link or a special file in a folder of chunks")
                elif not is_part(entry.name):
                    found[_below(entry.path, str(root))] = fingerprint_of_stat(entry.stat())
    return found
