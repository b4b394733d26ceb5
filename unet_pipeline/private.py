"""Folders and files that nobody but this user may read: scratch, caches, databases, logs.

Folders are made with mode 0700 and looked at where they stand: a folder of another user, a link, or
one that others may write is never used. A process that works here has the umask 077
(``keep_to_ourselves``), so files in them are 0600. What the user asked for, label maps and reports,
keeps the umask that the user had: ``open_output``, ``make_output_folder``.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from unet_pipeline.errors import RequestError

UMASK_VARIABLE = "UNET_PIPELINE_UMASK"  # the user's, for the processes that start from here
PRIVATE_UMASK = 0o077
_FOLDER_MODE = 0o700
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def keep_to_ourselves() -> None:
    """Let files of this process, and of those that it starts, be readable by this user only.

    The umask that the user had is kept in the environment, for what the user asked for.
    """
    before = os.umask(PRIVATE_UMASK)
    os.environ.setdefault(UMASK_VARIABLE, f"{before:03o}")


def open_output(path: Path) -> int:
    """Make a file that was not there, with the mode of the user's umask; return its descriptor."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    if (umask := _user_umask()) is not None:
        os.fchmod(descriptor, 0o666 & ~umask)
    return descriptor


def open_nameless(folder: Path) -> int | None:
    """Make a file without a name, with the mode of the user's umask; return its descriptor.

    It is gone with its process, unless ``give_name`` is called. None where the system has none.
    """
    flag = getattr(os, "O_TMPFILE", 0)
    if not flag:
        return None
    with suppress(OSError):  # not every file system has them
        descriptor = os.open(folder, flag | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        if (umask := _user_umask()) is not None:
            os.fchmod(descriptor, 0o666 & ~umask)
        return descriptor
    return None


def give_name(descriptor: int, path: Path) -> bool:
    """Give a nameless file a name that nothing has; say whether the system could."""
    with suppress(OSError):  # a descriptor makes Python follow the link, which it does not else
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        return True
    return False


def make_output_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, with the mode of the user's umask."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    umask = _user_umask()
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another thread or process made it meanwhile
            folder.mkdir()
            if umask is not None:
                folder.chmod(0o777 & ~umask)
    path.mkdir(exist_ok=True)  # says what is wrong where a file has this name


def _user_umask() -> int | None:
    """Return the umask that the user had; None where it still is this process's own."""
    try:
        return int(os.environ[UMASK_VARIABLE], 8) & 0o777
    except (KeyError, ValueError):
        return None


def own_folder(path: Path, *, way: bool = False) -> Path:
    """Make a folder that is this user's alone, or see that it is; others' right to read is taken.

    Parameters
    ----------
    way
        Look also at the folders above it: who may write one of them can put another in its place.

    Raises
    ------
    RequestError
        ``folder_not_private`` for a link, a folder of another user, or one that others may write.
    OSError
        If it cannot be made.
    """
    path = path.absolute()
    make_output_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode=_FOLDER_MODE)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise _not_private(path, "a link, or no folder")
    if found.st_uid != os.geteuid():
        raise _not_private(path, f"a folder of another user ({found.st_uid})")
    if (mode := stat.S_IMODE(found.st_mode)) & _OTHERS_WRITE:
        raise _not_private(path, f"a folder that others may write (mode {mode:04o})")
    if mode & 0o077:
        path.chmod(_FOLDER_MODE)  # nobody else can have put anything there
    if way:
        _check_way(path)
    return path


def _check_way(path: Path) -> None:
    for folder in path.resolve().parents:
        found = folder.stat()
        if found.st_uid not in {0, os.geteuid()}:
            raise _not_private(
                path, f"{folder}, which is another user's ({found.st_uid}), above it"
            )
        if found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(found.st_mode)
            raise _not_private(
                path, f"{folder}, which others may write (mode {mode:04o}), above it"
            )


def _not_private(path: Path, found: str) -> RequestError:
    return RequestError(
        "folder_not_private", subject=str(path), found=found,
        wanted="a folder that is yours alone, mode 0700",
        remedy="Remove it, take others' rights away (chmod go-rwx), or name another",
    )  # fmt: skip
