"""What lies at a URL, file by file: what may be read, and what is passed over, with the reason.

Links of a local folder are followed where they stay in it, or lead to an allowed prefix. Real names
come before those that links give: a folder is listed once.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from unet_pipeline.storage.faults import explained
from unet_pipeline.storage.formats import is_inner_label, is_volume_folder, volume_around
from unet_pipeline.storage.local import is_part, special_kind
from unet_pipeline.storage.marks import marks_below
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import (
    LOCAL,
    S3,
    basename,
    canonical,
    fixed_part,
    has_wildcard,
    parent,
    protocol_of,
)

_FEW_ASKED = 64  # files of a folder that are looked at one by one
_NO_NAMES = {"", ".", ".."}
Kind = Literal["folder", "pattern", "file"]


@dataclass(frozen=True)
class Survey:
    """What a URL selects.

    Attributes
    ----------
    base
        Folder that the names of the files start at.
    files
        What may be read, as canonical URLs, sorted.
    passed_over
        The other files and links, each with the reason.
    marks
        Of files of a prefix of S3, which a listing gives with the names.
    """

    url: str
    kind: Kind
    base: str
    files: tuple[str, ...]
    passed_over: tuple[tuple[str, str], ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


class AllowedFolders:
    """Where local files may lie once all links are followed.

    What stands below one of them is judged by where it really is; a link that leads out
    of all of them is refused. A folder is resolved once, and looked through once for links when
    many of its files are asked for.
    """

    def __init__(self, places: Sequence[str]) -> None:
        local = [place for place in places if protocol_of(place) == LOCAL]
        self._places = [os.path.realpath(canonical(place)) for place in local]
        self._folders: dict[str, _Folder] = {}

    def allows(self, path: str) -> bool:
        """Say whether a local file lies inside, with every link followed."""
        name, folder = self._folder(path)
        if folder.is_inside and folder.holds_plainly(name):
            return True
        return self.contains(self.real(path))

    def real(self, path: str) -> str:
        """Return where a local file really lies, with every link followed."""
        name, folder = self._folder(path)
        whole = f"{folder.real.rstrip('/')}/{name}"
        return whole if folder.holds_plainly(name) else os.path.realpath(whole)

    def contains(self, real: str) -> bool:
        """Say whether a real path lies inside."""
        return any(
            real == place or real.startswith(f"{place.rstrip('/')}/") for place in self._places
        )

    def _folder(self, path: str) -> "tuple[str, _Folder]":
        above, _, name = path.rpartition("/")
        folder = self._folders.get(above)
        if folder is None:
            real = os.path.realpath(above or "/")
            folder = self._folders[above] = _Folder(real, self.contains(real))
        return name, folder


class _Folder:
    """A folder of which files are asked whether they are links."""

    def __init__(self, real: str, is_inside: bool) -> None:
        self.real, self.is_inside = real, is_inside
        self._asked = 0
        self._links: set[str] | None = None

    def holds_plainly(self, name: str) -> bool:
        """Say whether ``name`` is one of its files or folders, or missing, and no link."""
        if name in _NO_NAMES:
            return False
        self._asked += 1
        if self._links is None and self._asked > _FEW_ASKED:
            self._links = set()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.real) as entries:
                self._links = {entry.name for entry in entries if entry.is_symlink()}
        if self._links is not None:
            return name not in self._links
        return not Path(self.real, name).is_symlink()


def survey(store: Store, url: str) -> Survey:
    """List a prefix or folder, a glob, or a file.

    Raises
    ------
    RequestError
        As ``Store.check_reachable``.
    """
    store.check_reachable(url)
    whole = canonical(url)
    is_local = protocol_of(url) == LOCAL
    if is_local and os.path.isdir(whole):  # noqa: PTH112  paths are text here
        with explained(url, request=True):
            walk = _Walk(whole, AllowedFolders((whole, *store.options.allowed)))
            found = sorted(walk.run())
        if is_volume_folder(whole):
            why = next((reason for _, reason in found if reason), "")
            refused = ((whole, why),) if why else ()
            return Survey(url, "file", _base(whole), () if why else (whole,), refused)
        return _sorted_out(url, "folder", whole, found)
    if is_local and os.path.lexists(whole):
        folders = AllowedFolders(
            (parent(os.path.realpath(whole)),)
        )  # whoever names a link means its file
        return _sorted_out(url, "file", parent(url), [(whole, _reason(whole, folders))])
    marks = _marks(store, url)
    files = sorted(marks) or store.list_files(url)
    is_pattern = store.is_pattern(url)
    if files == [whole] or (files and not is_pattern and is_volume_folder(whole)):
        return Survey(url, "file", _base(whole), (whole,))
    if not is_pattern:
        found = [(file, "") for file in files]
        return replace(_sorted_out(url, "folder", whole, found), marks=marks)
    base = fixed_part(url)
    if not is_local:
        return _sorted_out(url, "pattern", base, [(file, "") for file in files])
    folders = AllowedFolders((base, *store.options.allowed))
    return _sorted_out(url, "pattern", base, [(path, _reason(path, folders)) for path in files])


def _marks(store: Store, url: str) -> dict[str, str]:
    """Return the marks of the files below a prefix of S3; nothing for anything else."""
    if protocol_of(url) != S3 or has_wildcard(url):
        return {}
    return marks_below(store, url, lambda file: not (file.endswith("/") or is_part(basename(file))))


def _base(whole: str) -> str:
    """Return the folder that a volume lies in; a label image has the name of its image's folder."""
    return parent(parent(parent(whole))) if is_inner_label(whole) else parent(whole)


def _sorted_out(url: str, kind: Kind, base: str, found: Sequence[tuple[str, str]]) -> Survey:
    volumes: dict[str, str] = {}
    for path, reason in found:  # of a folder that is a volume, a reason of any of its files
        one = path if kind == "pattern" and is_inner_label(path) else volume_around(path, base)
        volumes[one] = volumes.get(one) or reason
    files = (path for path, reason in volumes.items() if not reason)
    return Survey(url, kind, base, tuple(files), tuple(one for one in volumes.items() if one[1]))


class _Walk:
    """One walk over a folder: its real tree first, then what links add to it."""

    def __init__(self, root: str, folders: AllowedFolders) -> None:
        self.root, self.folders = root, folders
        self.seen: dict[str, str] = {}  # real folder: the name that its files have
        self.links: list[str] = []  # of folders

    def run(self) -> Iterator[tuple[str, str]]:
        """Yield each file, and each link of a folder that is passed over, with the reason."""
        yield from self._below(self.root)
        while self.links:
            self.links.sort(reverse=True)
            link = self.links.pop()
            real = os.path.realpath(link)
            if self.folders.contains(real):
                yield from self._below(link)
            else:
                yield link, _leads_out(real)

    def _below(self, top: str) -> Iterator[tuple[str, str]]:
        pending = [top]
        while pending:
            folder = pending.pop()
            real = os.path.realpath(folder)
            known = self.seen.get(real)
            if known is not None and (self._is_hidden(folder) or not self._is_hidden(known)):
                yield folder, f"a link to a folder that is listed anyway (as {known})"
                continue
            self.seen[real] = folder
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_dir():
                        self.links.append(entry.path)
                    elif not is_part(entry.name):
                        yield entry.path, _reason_of_entry(entry, self.folders)

    def _is_hidden(self, path: str) -> bool:
        return any(part.startswith(".") for part in path.removeprefix(self.root).split("/"))


def _reason_of_entry(entry: "os.DirEntry[str]", folders: AllowedFolders) -> str:
    return "" if entry.is_file(follow_symlinks=False) else _reason(entry.path, folders)


def _reason(path: str, folders: AllowedFolders) -> str:
    """Return why a file, or a folder that is a volume, is passed over; empty if it may be read."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  paths are text here
    except OSError:
        return "a link that leads to nothing"
    if stat.S_ISDIR(mode) and is_volume_folder(path):
        return next((why for _, why in _Walk(path, folders).run() if why), "")
    if not stat.S_ISREG(mode):
        return f"{special_kind(mode) or 'a special file'}, not a regular file"
    real = folders.real(path)
    return "" if folders.contains(real) else _leads_out(real)


def _leads_out(real: str) -> str:
    return f"a link out of the prefix (--allow {parent(real)} to read it)"
