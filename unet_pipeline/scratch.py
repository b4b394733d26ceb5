"""Scratch: folders for decoded voxels, which end with their case, whatever ends it.

A scratch folder has a name that nobody can guess, and a lock that each process which uses it shares
as long as it lives. The system lets go of a lock when a process ends, however it ends: so a folder
whose lock nobody holds was left behind, and any later run of the same user removes it. The lock is
the first thing that comes and the last that goes; without one, a folder is left behind after a
minute.
"""

import atexit
import fcntl
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unet_pipeline.private import own_folder

log = logging.getLogger(__name__)

PREFIX = "unet-pipeline-"
_NAME = re.compile(PREFIX + "[0-9a-f]{32}")  # no other without a lock is surely ours
_LOCK = ".lock"
_UNLOCKED_SECONDS = 60.0  # a folder gets its lock in the moment in which it is made
_TRIES = 3
_held: dict[Path, int] = {}  # scratch folders that this process uses, and the open file of the lock
_parents: set[Path] = set()  # where scratch of this process's runs may lie
_changing = threading.RLock()


def scratch_path(parent: str | Path | None = None) -> Path:
    """Return a name for a scratch folder that nobody can guess.

    The first time it looks whether killed processes left scratch beside it, and removes that.

    Parameters
    ----------
    parent
        Folder that it is to lie in. Default: the system's folder for temporary files.
    """
    folder = Path(parent or tempfile.gettempdir()).absolute()
    if folder not in _parents:
        _parents.add(folder)
        remove_abandoned(folder)
    return folder / f"{PREFIX}{secrets.token_hex(16)}"


def scratch_name(parent: str | Path | None = None) -> str:
    """Return what a scratch folder is called on all hosts; arguments as of ``scratch_path``.

    Without a parent it is a name, and lies in each host's own folder for temporary files.
    """
    path = scratch_path(parent)
    return str(path) if parent else path.name


def scratch_here(name: str) -> Path:
    """Return where a scratch folder lies on this host."""
    return Path(tempfile.gettempdir()).absolute() / name


def is_scratch(path: Path) -> bool:
    """Say whether a folder is named as scratch is."""
    return _NAME.fullmatch(path.name) is not None


def open_scratch(path: Path) -> None:
    """Make a scratch folder, or use one that is there, and hold it until ``remove_scratch``.

    Raises
    ------
    RequestError
        ``folder_not_private``.
    """
    with _changing:
        own_folder(path)
        if hold_scratch(path):
            return
        own_folder(path)  # for it may just have been removed, as one that nobody used
        # Locked before it has its name: whoever looks for what was left behind never finds it free.
        part = path / f"{_LOCK}-{secrets.token_hex(4)}"
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _share(descriptor)
        part.rename(path / _LOCK)
        _hold(path, descriptor)


def hold_scratch(path: Path) -> bool:
    """Let a scratch folder be there as long as this process lives; say whether it is there.

    Whoever made it may be killed, while others go on with what it wrote.
    """
    with _changing:
        if (descriptor := _open_lock(path)) is None:
            return False
        _share(descriptor)
        _hold(path, descriptor)
        return (path / _LOCK).exists()


def _open_lock(path: Path) -> int | None:
    with suppress(OSError):
        return os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    return None


def _share(descriptor: int) -> None:
    """Share a lock; wait for who removes its folder, as one that nobody uses, to come to an end."""
    with suppress(OSError):  # a file system without locks: then no folder is found free
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def _hold(path: Path, descriptor: int) -> None:
    for gone in {path, *(other for other in _held if not other.exists())}:  # removed by others
        _let_go(gone)
    _held[path] = descriptor


def _let_go(path: Path) -> None:
    if (descriptor := _held.pop(path, None)) is not None:
        os.close(descriptor)


@contextmanager
def writing_scratch(path: Path) -> Iterator[None]:
    """Make a scratch folder to write into, which is removed by its case; or here, if that is over.

    A case whose time is up has its scratch removed while a call still writes, which would make the
    folder anew.
    """
    open_scratch(path)
    try:
        yield
    finally:
        if not (path / _LOCK).exists():
            remove_scratch(path)


@contextmanager
def scratch_folder(parent: str | Path | None = None) -> Iterator[Path]:
    """Make a scratch folder, and remove it at the end of the block."""
    path = scratch_path(parent)
    open_scratch(path)
    try:
        yield path
    finally:
        remove_scratch(path)


def remove_scratch(path: Path) -> None:
    """Remove a scratch folder, whoever uses it, and all that is in it; nothing if there is none."""
    with _changing:
        _clear(path)
        _let_go(path)


def _clear(path: Path) -> None:
    """Remove a folder, its lock last: whoever is killed in the middle leaves what is found later.

    Somebody may still write there; then it is begun again.
    """
    for _ in range(_TRIES if not path.is_symlink() else 0):
        with suppress(OSError):
            for inner in path.iterdir():
                if inner.name == _LOCK:
                    continue
                if inner.is_dir() and not inner.is_symlink():
                    shutil.rmtree(inner, ignore_errors=True)
                else:
                    inner.unlink(missing_ok=True)
            (path / _LOCK).unlink(missing_ok=True)
            path.rmdir()
        if not path.exists():
            return


@atexit.register
def remove_all_scratch() -> None:
    """Remove all scratch folders that this process uses, and no other."""
    for path in [*_held]:
        _let_go(path)
        _remove_abandoned(path)


def remove_abandoned(parent: str | Path | None = None) -> list[Path]:
    """Remove scratch folders whose processes have ended without doing so; return which.

    Those of other users, and of processes that live, are left alone.

    Parameters
    ----------
    parent
        Where to look. Default: the system's folder for temporary files, and wherever scratch of
        this process was to lie.
    """
    folders = {Path(parent)} if parent else {Path(tempfile.gettempdir()), *_parents}
    removed: list[Path] = []
    for folder in folders:
        with suppress(OSError):
            removed += [path for path in folder.glob(f"{PREFIX}*") if _remove_abandoned(path)]
    if removed:
        log.info("removed %d scratch folders that a killed process had left", len(removed))
    return removed


def find_abandoned(parent: Path) -> list[Path]:
    """Return what ``remove_abandoned`` would remove of a folder; nothing is removed."""
    with suppress(OSError):
        found = sorted(parent.glob(f"{PREFIX}*"))
        return [path for path in found if _remove_abandoned(path, lambda _: None)]
    return []


def _remove_abandoned(path: Path, clear: Callable[[Path], None] = _clear) -> bool:
    """Remove a folder if it is ours and nobody uses it; nobody can begin to meanwhile."""
    with _changing, suppress(OSError):
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or path in _held:
            return False
        if (descriptor := _open_lock(path)) is None:
            if not _NAME.fullmatch(path.name) or time.time() - found.st_mtime < _UNLOCKED_SECONDS:
                return False
            clear(path)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            clear(path)
            return True
        finally:
            os.close(descriptor)
    return False
