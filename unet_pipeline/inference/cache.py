"""The user's cache folder: what can be made or measured again.

It may always be lost, unreadable or read-only. Files are written whole or not at all, since several
workers may write the same one.
"""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

log = logging.getLogger(__name__)

CACHE_VARIABLE = "UNET_PIPELINE_CACHE"


def cache_folder() -> Path:
    """Return the folder; it need not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "unet_pipeline"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "unet_pipeline"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unet_pipeline"


def file_of(kind: str, question: Mapping[str, Any], suffix: str) -> Path:
    """Return the file of the answer to a question; ``kind`` names its folder."""
    digest = hashlib.sha256(json.dumps(plain(question)).encode()).hexdigest()
    return cache_folder() / kind / f"{digest[:32]}{suffix}"


def plain(question: Mapping[str, Any]) -> Any:
    """Return a question as it comes back from a file."""
    return json.loads(json.dumps(question, sort_keys=True))


def versions_of(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the versions of packages, None for those that are not installed."""
    return {name: _version(name) for name in packages}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that only this user can read, whole or not at all; say so if it cannot be."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            file.write(data)
        part.replace(path)
    except OSError as error:
        log.info("%s is not kept: %s", path.parent.name, error.strerror)
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)
