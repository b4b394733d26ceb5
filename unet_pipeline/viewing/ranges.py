"""Parts of an answer, as ``Range`` asks for them (RFC 9110, section 14).

One range of bytes is answered with 206; several, another unit or what is no range at all with the
whole, as the RFC allows. A volume is decoded from its beginning, so what lies before a part is
decoded, too, and not sent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BYTES = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Bytes ``first`` to ``stop``, without it; none of them for a range behind the end."""

    first: int
    stop: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return max(self.stop - self.first, 0)


def asked_part(header: str, size: int) -> Part | None:
    """Return what a header ``Range`` asks for of ``size`` bytes; None for all of them.

    >>> asked_part("bytes=0-3", 10), asked_part("bytes=-3", 10), asked_part("bytes=4-99", 10)
    (Part(first=0, stop=4), Part(first=7, stop=10), Part(first=4, stop=10))
    >>> asked_part("bytes=10-", 10), asked_part("bytes=3-2", 10), asked_part("bytes=0-1,4-5", 10)
    (Part(first=10, stop=10), None, None)
    """
    found = _BYTES.fullmatch(header)
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return Part(max(size - int(last), 0), size)
    if last and int(last) < int(first):
        return None
    return Part(int(first), min(int(last) + 1, size) if last else size)


def cut(pieces: Iterator[bytes], part: Part) -> Iterator[bytes]:
    """Yield what lies in a part of the whole that the pieces make up; stop behind it."""
    place = 0
    for piece in pieces:
        found = piece[max(part.first - place, 0) : max(part.stop - place, 0)]
        if found:
            yield found
        place += len(piece)
        if place >= part.stop:
            return
