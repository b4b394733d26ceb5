"""Marks: what tells one version of an object from another, as listings give it for many at once.

On S3 a mark is size and etag, of pages of a thousand names. Of a local file it is what Git keeps of
the files of a working tree: size, inode, time of the last change of the content and of the file
(the last one cannot be set by hand). A file that changed within the last moments has no mark, for
it could change again and look the same.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from time import time_ns

from unet_pipeline.storage.fingerprint import Fingerprint, fingerprint_of_stat
from unet_pipeline.storage.local import walk_names
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import LOCAL, canonical, protocol_of

JUST_NOW_NS = 2 * 10**9
_AT_ONCE, _TOGETHER = 16, 256

Marks = dict[str, str]


def mark_of(fingerprint: Fingerprint) -> str | None:
    """Return the mark of an object of a store that has etags; None where there is none."""
    return None if fingerprint.etag is None else f"{fingerprint.size}:{fingerprint.etag}"


def is_mark_of(mark: str, fingerprint: Fingerprint) -> bool:
    """Say whether a mark is that of a version that was seen by itself."""
    if fingerprint.place is None:
        return mark == mark_of(fingerprint)
    return mark.rpartition(":")[0] == _content_of(fingerprint)


def marks_of(
    store: Store,
    urls: Collection[str],
    folders: Iterable[str],
    expected: Collection[str] = (),
) -> Marks:
    """Return the marks of objects that have one.

    Parameters
    ----------
    urls
        Canonical URLs.
    folders
        Where they lie: what is listed, in a store that is listed.
    expected
        As of ``Store.versions_below``; ``urls`` if empty.
    """
    local = [url for url in urls if protocol_of(url) == LOCAL]
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # for shared file systems, which answer late
        some = [local[start : start + _TOGETHER] for start in range(0, len(local), _TOGETHER)]
        each = chain.from_iterable(pool.map(lambda part: [*map(_local_mark, part)], some))
        found = dict(zip(local, each, strict=True))
    others = frozenset(urls).difference(local)
    for folder in folders if others else ():
        if protocol_of(folder) != LOCAL:
            found |= _listed(store, folder, others.__contains__, expected or others)
    return {url: mark for url, mark in found.items() if mark is not None}


def marks_below(
    store: Store, folder: str, wanted: Callable[[str], bool], expected: Collection[str] = ()
) -> Marks:
    """Return the marks of the files below a folder that are wanted; empty for one without mark.

    Parameters
    ----------
    expected
        As of ``Store.versions_below``.
    """
    if protocol_of(folder) == LOCAL:
        names = [url for url in walk_names(canonical(folder)) if wanted(url)]
        return {url: _local_mark(url) or "" for url in names}
    return {url: mark or "" for url, mark in _listed(store, folder, wanted, expected).items()}


def _listed(
    store: Store, folder: str, wanted: Callable[[str], bool], expected: Collection[str]
) -> dict[str, str | None]:
    found = store.versions_below(folder, wanted, expected)
    return {url: mark_of(one) for url, one in found.items()}


def _local_mark(url: str) -> str | None:
    with suppress(OSError):
        state = os.stat(url)  # noqa: PTH116  paths are text here
        if not stat.S_ISREG(state.st_mode):
            return None  # what changes in a folder does not show in its times
        if abs(time_ns() - max(state.st_mtime_ns, state.st_ctime_ns)) > JUST_NOW_NS:
            return f"{_content_of(fingerprint_of_stat(state))}:{state.st_ctime_ns}"
    return None


def _content_of(fingerprint: Fingerprint) -> str:
    inode = None if fingerprint.place is None else fingerprint.place[1]
    return f"{fingerprint.size}:{inode}:{fingerprint.version}"
