"""Files of the user's cache folder: what can be made or measured again.

It may always be lost. Files are written whole or not at all, since several workers may write the
same one.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from unet_pipeline.caches import cache_of
from unet_pipeline.records import json_text

log = logging.getLogger(__name__)


def file_of(kind: str, key: Mapping[str, Any], suffix: str) -> Path:
    """Return the file of a key; ``kind`` names its folder."""
    digest = hashlib.sha256(json_text(plain(key)).encode()).hexdigest()
    return cache_of(kind) / f"{digest[:32]}{suffix}"


def plain(key: Mapping[str, Any]) -> Any:
    """Return a key as it comes back from a file."""
    return json.loads(json_text(key, sort_keys=True))


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
        with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            file.write(data)
        part.replace(path)
    except OSError as error:
        log.info("%s is not kept: %s", path.parent.name, error.strerror)
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)
