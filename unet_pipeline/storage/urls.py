"""URLs of files and folders as text: joining, cutting, comparing. Nothing here touches a store.

A URL is ``s3://bucket/key``, ``memory://x``, another fsspec URL, or a local path. Its *canonical*
form has no final slash, and a local one is a plain absolute path.
"""

import posixpath
import re
from contextlib import suppress
from pathlib import Path

from unet_pipeline.errors import without_secrets

LOCAL = "file"
S3 = "s3"
_WILDCARD = re.compile(r"[*?\[]")
_UNTIDY = re.compile(r"//|/\.(/|\Z)|/\Z")  # what a plain absolute path does not have
_WITH_QUERY = frozenset({"http", "https", "ftp", "sftp"})
_ALIASES = {"local": LOCAL, "s3a": S3}


def protocol_of(url: str) -> str:
    """Return the protocol in lower case: ``s3``, ``memory``, ``file`` for local paths."""
    name, separator, _ = url.partition("://")
    return _ALIASES.get(name.lower(), name.lower()) if separator else LOCAL


def canonical(url: str) -> str:
    """Return the one form of ``url`` that comparisons and listings use."""
    if url[:1] == "/" and _UNTIDY.search(url) is None:  # of a hundred thousand paths, nearly all
        return url
    _, separator, rest = url.partition("://")
    protocol = protocol_of(url)
    if protocol == LOCAL:
        path = Path(rest if separator else url)
        with suppress(RuntimeError):  # no such user
            path = path.expanduser()
        return f"/{str(path.absolute()).lstrip('/')}"  # POSIX keeps two leading slashes
    if protocol == "memory":
        rest = rest.lstrip("/")
    return f"{protocol}://{rest.rstrip('/')}"


def join(url: str, *parts: str) -> str:
    """Return ``url`` with ``parts`` appended, one slash between them; empty parts are left out."""
    head, separator, rest = url.rpartition("://")
    inner = [part.strip("/") for part in parts if part.strip("/")]
    if not inner:
        return url
    start = f"{rest.rstrip('/')}/" if rest else ""
    return f"{head}{separator}{start}{'/'.join(inner)}"


def relative_to(url: str, prefix: str) -> str:
    """Return the path of ``url`` below ``prefix``; empty if they are the same.

    Raises
    ------
    ValueError
        If ``url`` does not lie below ``prefix``.
    """
    whole, start = canonical(url), canonical(prefix)
    if whole == start:
        return ""
    start = start if start.endswith("/") else f"{start}/"
    if not whole.startswith(start):
        raise ValueError(f"{redact(url)} does not lie below {redact(prefix)}")
    return whole[len(start) :]


def is_below(url: str, prefix: str) -> bool:
    """Say whether ``url`` lies in ``prefix`` or is it, with every ``..`` followed.

    >>> is_below("s3://scans/a/../../other/x.nii", "s3://scans")
    False
    """
    ends = []
    for one in (url, prefix):
        head, separator, rest = canonical(one).rpartition("://")
        ends.append(f"{head}{separator}{posixpath.normpath(rest)}")
    with suppress(ValueError):
        return relative_to(*ends) is not None
    return False


def basename(url: str) -> str:
    """Return the last part of ``url``: the file's or folder's own name."""
    return url.rstrip("/").rpartition("/")[2]


def parent(url: str) -> str:
    """Return the canonical URL of the folder that ``url`` lies in."""
    whole = canonical(url)
    head, separator, rest = whole.rpartition("://")
    folder = rest.rpartition("/")[0]
    if not separator and not folder:
        return "/"
    return f"{head}{separator}{folder}"


def beside(url: str, place: str) -> str:
    """Return a place that is relative to the folder of ``url``; one that is not as it is.

    ``..`` is followed, which object stores do not do. A local one is left to the file system, whose
    folders may be links.

    >>> beside("s3://models/sets/night.yaml", "../organs")
    's3://models/organs'
    """
    if "://" in place or place.startswith(("/", "~")):
        return place
    joined = join(parent(url), place)
    head, separator, rest = joined.rpartition("://")
    return f"{head}{separator}{posixpath.normpath(rest)}" if separator else joined


def has_wildcard(url: str) -> bool:
    """Say whether ``url`` contains a character that a glob gives a meaning to."""
    return _WILDCARD.search(url) is not None


def fixed_part(pattern: str) -> str:
    """Return the folder above the first part of ``pattern`` that has a wildcard."""
    whole = canonical(pattern)
    found = _WILDCARD.search(whole)
    return whole if found is None else parent(whole[: found.start()] + "*")


def redact(url: str) -> str:
    """Return ``url`` without what may be a secret: user, password, signature, a web URL's query."""
    plain = without_secrets(url, one_url=True)
    return re.split(r"[?#]", plain)[0] if protocol_of(url) in _WITH_QUERY else plain
