"""Listings of S3, a page of a thousand names at a time; of many names several ranges at once.

A range begins behind a name and ends with another (``StartAfter``). The names are some of those
that are expected below the prefix, so that all ranges are of about one length; what is really there
makes no difference to the result. A store that does not list in order, from where it is asked to,
is listed once from the beginning.
"""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from unet_pipeline.storage.fingerprint import Fingerprint, of_info
from unet_pipeline.storage.urls import S3

_AT_ONCE = 4  # pages that are under way
_MOST_RANGES = 16  # short ones, so that all threads end at about the same time
_NAMES_OF_RANGE = 4000  # expected ones, at least

Versions = dict[str, Fingerprint]
_Wanted = Callable[[str], bool]


class _OutOfOrderError(Exception):
    """The store does not list by name, or not from where it was asked to."""


def list_one(files: Any, path: str) -> None:
    """Ask for one name: the answer has a body, which says what is wrong."""
    bucket, prefix = _place_of(files, path)
    files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)


def list_pages(files: Any, path: str, after: str = "") -> Iterator[tuple[str, Fingerprint]]:
    """Yield all objects below a prefix, page by page; nothing is kept.

    Parameters
    ----------
    after
        The objects come behind this one, by name.
    """
    bucket, prefix = _place_of(files, path)
    asked = {"Bucket": bucket, "Prefix": prefix}
    if after:
        asked["StartAfter"] = after.removeprefix(f"{bucket}/")
    while asked:
        page = files.call_s3("list_objects_v2", **asked)
        for one in page.get("Contents", ()):
            info = {"size": one["Size"], "ETag": one.get("ETag")}
            yield f"{bucket}/{one['Key']}", of_info(S3, info)
        more = page.get("NextContinuationToken") if page.get("IsTruncated") else None
        asked = {**asked, "ContinuationToken": more} if more else {}


def list_wanted(files: Any, path: str, wanted: _Wanted, expected: Collection[str]) -> Versions:
    """Return the objects below a prefix that are wanted, in the order of the store.

    Parameters
    ----------
    wanted
        Of a name with its bucket before it.
    expected
        Names of objects that are likely to be there, to list many in ranges.
    """
    if borders := _borders(expected):
        listed = partial(_list_range, files, path, wanted)
        found: Versions = {}
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for part in pool.map(listed, ["", *borders], [*borders, None]):
                    found |= part
        except (_OutOfOrderError, OSError):  # an error that stays is met again
            found.clear()
        else:
            return found
    return {name: version for name, version in list_pages(files, path) if wanted(name)}


def _borders(expected: Collection[str]) -> list[str]:
    """Return names that part the expected ones evenly; none where these are few."""
    count = min(_MOST_RANGES, len(expected) // _NAMES_OF_RANGE)
    if count < 2:
        return []
    names = sorted(expected)
    return [names[len(names) * number // count] for number in range(1, count)]


def _list_range(files: Any, path: str, wanted: _Wanted, after: str, last: str | None) -> Versions:
    """Return the objects behind one name up to another that are wanted; to the end for None."""
    found, before = {}, after
    for name, version in list_pages(files, path, after):
        if name <= before:
            raise _OutOfOrderError
        if last is not None and name > last:
            break
        if wanted(name):
            found[name] = version
        before = name
    return found


def _place_of(files: Any, path: str) -> tuple[str, str]:
    bucket, key, _ = files.split_path(path)
    return bucket, f"{key.rstrip('/')}/" if key else ""
