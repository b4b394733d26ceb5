"""Local files: atomic writes, reads of regular files alone, and listings that follow links."""

import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

from unet_pipeline.private import give_name, make_output_folder, open_nameless, open_output

log = logging.getLogger(__name__)

_PART = ".part"
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class NotRegularError(OSError):
    """What was to be read is a pipe, a device or a socket: it may never end, or wait for ever."""


class RegularFiles(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The local file system, of which only regular files are opened."""

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **kwargs: Any) -> Any:
        opener = _RegularFile if mode == "rb" else LocalFileOpener
        return opener(self._strip_protocol(path), mode, fs=self, **kwargs)


class _RegularFile(LocalFileOpener):  # type: ignore[misc]  # fsspec has no types
    f: Any

    def _open(self) -> None:
        if self.f is None or self.f.closed:
            self.f = open_regular(self.path)
            self.size = os.fstat(self.f.fileno()).st_size


def open_regular(path: str) -> BinaryIO:
    """Open a regular file for reading, and nothing else.

    A link is followed. It is looked at before it is opened, for a device may act when it is, and
    again when it is open, for it may have been replaced; a pipe is never waited for.

    Raises
    ------
    NotRegularError
        For a named pipe, a device or a socket.
    IsADirectoryError
        For a folder.
    """
    _require_regular(os.stat(path), path)  # noqa: PTH116  a path is text here
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def special_kind(mode: int) -> str:
    """Return what a file is that is neither a regular file nor a folder: ``a named pipe`` ..."""
    return next((kind for is_it, kind in _KINDS if is_it(mode)), "")


def _require_regular(state: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(path)
    if not stat.S_ISREG(state.st_mode):
        raise NotRegularError(special_kind(state.st_mode) or "a special file")


def write_atomically(
    path: Path,
    data: Iterable[bytes | bytearray | memoryview],
    *,
    new: bool = False,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write ``data`` so that ``path`` holds either its old content or all of the new one.

    The bytes go to a hidden file beside ``path``, reach the disk, and take its name in one step.
    On Linux the file has no name until all of it is there, so a process that is killed leaves none.
    Files and new folders have the mode of the umask that the user has.

    Parameters
    ----------
    data
        In parts, which may be gone through again.
    new
        Nothing may be there: FileExistsError otherwise.
    before
        Called at the last moment before the name is taken; it may raise.
    """
    make_output_folder(path.parent)
    part = path.with_name(f".{secrets.token_hex(8)}{_PART}")
    try:
        _write_part(part, data)
        before()
        if new:
            _take_new_name(part, path)
        else:
            part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def _write_part(part: Path, data: Iterable[bytes | bytearray | memoryview]) -> None:
    if (descriptor := open_nameless(part.parent)) is not None:
        with os.fdopen(descriptor, "wb") as file:
            _fill(file, data)
            if give_name(descriptor, part):
                return
    with os.fdopen(open_output(part), "wb") as file:
        _fill(file, data)


def _fill(file: BinaryIO, data: Iterable[bytes | bytearray | memoryview]) -> None:
    file.writelines(data)
    file.flush()
    os.fsync(file.fileno())


def _take_new_name(part: Path, path: Path) -> None:
    """Give ``part`` a name that nothing has; by a link, which, unlike a rename, never replaces."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(str(path)) from None
        part.replace(path)
    else:
        part.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Hold a file that is about to be compared and replaced, so that nobody else of ours does.

    A file system without locks, and a file that we may not write to, are used without.

    Raises
    ------
    BlockingIOError
        If another process or thread is just about to replace it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            log.debug("no lock is to be had of %s", path)
        yield
    finally:
        os.close(descriptor)


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


def walk_names(root: str) -> Iterator[str]:
    """Yield the paths of all files below a folder; of a hundred thousand in half a second."""
    folders = [root]
    while folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry.path


def prune(root: Path) -> None:
    """Remove empty folders: those below ``root``, and itself."""
    for folder, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):  # it holds something
            Path(folder).rmdir()


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
