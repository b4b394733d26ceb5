"""Local files: atomic writes, and listings that follow links."""

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PART = ".part"


def write_atomically(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write ``data`` so that ``path`` holds either its old content or all of the new one.

    The bytes go to a hidden file beside ``path``, reach the disk, and take its name in one step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}{_PART}")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def is_part(name: str) -> bool:
    """Say whether ``name`` is that of an unfinished write, left by a process that was killed."""
    return name.startswith(".") and name.endswith(_PART)


def walk(root: Path) -> Iterator[Path]:
    """Yield the files below ``root``, or ``root`` itself if it is a file.

    Links to folders are followed, each folder once. A folder that cannot be read raises.
    """
    if root.is_file():
        yield root
        return
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise_unless_missing, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        yield from (Path(folder, name) for name in names)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
