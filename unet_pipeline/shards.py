"""Parts of a cohort that runs work on side by side: ``3/8`` is the third of eight.

A case is in the part that its name says, so cases that come or go move no others.
"""

import re
from dataclasses import dataclass
from hashlib import sha256

PATTERN = r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$"  # for JSON schema (and JavaScript), too


@dataclass(frozen=True)
class Shard:
    """One of several disjoint parts of a cohort.

    Attributes
    ----------
    number, of
        Which one, from 1, and of how many.
    """

    number: int
    of: int

    def has(self, case: str) -> bool:
        """Say whether a case is in this part, by its name alone."""
        digest = sha256(case.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


def shard_of(text: str) -> Shard:
    """Return the part that a text says.

    Raises
    ------
    ValueError
        For a text that says none.

    >>> shard_of("3/8")
    Shard(number=3, of=8)
    """
    if not re.match(PATTERN, text):
        raise ValueError("takes a part of the cohort such as 3/8: the third of eight")
    number, of = map(int, text.split("/"))
    if number > of:
        raise ValueError(f"takes a part of the cohort from 1/{of} to {of}/{of}")
    return Shard(number, of)
