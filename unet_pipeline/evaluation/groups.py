"""Patients of one sex and age, where a manifest says them: sizes are held against theirs.

A group counts from some cases on; below, those of the age count, then those of the sex, then all.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.records import Case

_BANDS_YEARS = (1, 2, 4, 8, 13, 18, 40, 65)  # where a group of ages ends and the next begins
_AGE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) ?([YMWD]?)", re.IGNORECASE)  # 045Y, as in DICOM
_OF_A_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
_SEXES = {"f": "f", "female": "f", "w": "f", "woman": "f", "m": "m", "male": "m", "man": "m"}
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Whom a case is held against; ``age`` is a number of a span of years.

    Of what is not known it is None.
    """

    sex: str | None = None
    age: int | None = None


@dataclass(frozen=True)
class Population:
    """Cases that are judged by the same numbers.

    Attributes
    ----------
    judged, among
        Masks over all cases: those that are judged, and those that it is learned from.
    what
        In words, what these are alike in; empty for all cases.
    """

    judged: _Mask
    among: _Mask
    what: str


NOBODY = Group()


def groups_of(cases: Iterable[Case]) -> dict[str, Group]:
    """Return the group of each case of which something is known, by its name."""
    found = ((case.name, group_of(case.sex, case.age)) for case in cases)
    return {name: group for name, group in found if group != NOBODY}


def group_of(sex: str, age: str) -> Group:
    """Return the group of a patient, by texts as a manifest has them.

    >>> group_of("Female", "045Y") == group_of("f", "50.5")
    True
    >>> group_of("unknown", "n/a")
    Group(sex=None, age=None)
    """
    found = _AGE.fullmatch(age.strip())
    band = None
    if found is not None:
        years = float(found[1]) / _OF_A_YEAR[found[2].upper()]
        band = sum(years >= end for end in _BANDS_YEARS)
    return Group(_SEXES.get(sex.strip().lower()), band)


def populations(groups: Sequence[Group], least: int) -> Iterator[Population]:
    """Yield populations that judge every case once, the narrowest that is large enough."""
    left = np.ones(len(groups), bool)
    known = [one for one in groups if one != NOBODY]
    for what, keys in (
        ("cases of that sex and age", [(one.sex, one.age) for one in groups]),
        ("cases of that age", [(one.age,) for one in groups]),
        ("cases of that sex", [(one.sex,) for one in groups]),
    ):
        counts = Counter(key for key in keys if None not in key) if known else Counter()
        for key in [key for key, count in counts.items() if count >= least]:
            among = np.array([one == key for one in keys])
            if (among & left).any():
                yield Population(among & left, among, what)
            left &= ~among
    if left.any():
        yield Population(left, np.ones(len(groups), bool), "")
