"""Left and right exchanged, by the names of labels: of a pair, the left one has to lie left.

Names say it, so it needs no other cases. Where most cases contradict the names of a pair, it is
the names or the headers that are exchanged and not one label map, and that is said once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unet_pipeline.evaluation.doubts import MOST, Case, Doubt, number
from unet_pipeline.texts import shown

_RIGHT_OF = {"left": "right", "lh": "rh", "l": "r"}
_LAST_ONLY = "l"  # as in TG-263's Kidney_L; anywhere else a letter may mean anything
_LEAST = 0.1  # of what a pair takes up from left to right: how far is surely on the wrong side


@dataclass(frozen=True)
class Pair:
    """The labels of a left and a right structure: their numbers, as text."""

    left: str
    right: str


@dataclass(frozen=True)
class _Exchange:
    """A pair whose left one lies to the right, by its centroid, in mm."""

    case: str
    pair: Pair
    mm: float


def pairs_of(names: Mapping[str, str]) -> list[Pair]:
    """Return the labels whose names differ by their side alone.

    ``kidney_left`` and ``kidney_right``, ``Left-Hippocampus``, ``ctx-lh-cuneus``, ``Lung_L``. A
    name that several labels have is of no pair.

    Parameters
    ----------
    names
        Name of each label, by its number as text.
    """
    by_words: dict[tuple[str, ...], list[str]] = {}
    for label, name in names.items():
        by_words.setdefault(_words(name), []).append(label)
    found = []
    for words, left in by_words.items():
        right = by_words.get(_other_side(words), [])
        if len(left) == len(right) == 1:
            found.append(Pair(left[0], right[0]))
    return found


def exchanged(cases: Sequence[Case], names: Mapping[str, str]) -> Iterator[tuple[str, Doubt]]:
    """Yield the cases whose left and right are exchanged, once each.

    Pairs that are exchanged in more than half of the cases that have both are named once, for the
    case where they are furthest apart.
    """
    of_case: dict[str, list[_Exchange]] = {}
    of_most: list[tuple[_Exchange, str]] = []
    for pair in pairs_of(names):
        known = [_Exchange(one.name, pair, mm) for one in cases
                 if (mm := _wrong_by_mm(pair, one)) is not None]  # fmt: skip
        found = [one for one in known if one.mm]
        if 2 * len(found) > len(known):
            of_most.append((max(found, key=_by_mm), f"in {len(found)} of {len(known)} cases"))
            continue
        for one in found:
            of_case.setdefault(one.case, []).append(one)
    for case, every in of_case.items():
        worst = max(every, key=_by_mm)
        what = f"{_what(worst, len(every), names)}: left and right exchanged?"
        yield case, Doubt(worst.pair.left, MOST, what)
    if of_most:
        worst, share = max(of_most, key=lambda one: _by_mm(one[0]))
        what = f"{_what(worst, len(of_most), names)}, {share}: do names or headers exchange sides?"
        yield worst.case, Doubt(worst.pair.left, MOST, what)


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name in small letters, ``LeftKidney`` as two."""
    return tuple(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def _other_side(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of the right one of a pair, or none if they are not those of a left one."""
    last = len(words) - 1
    sides = [i for i, word in enumerate(words)
             if word in _RIGHT_OF and (word != _LAST_ONLY or i == last)]  # fmt: skip
    if len(sides) != 1:
        return ()
    at = sides[0]
    return (*words[:at], _RIGHT_OF[words[at]], *words[at + 1 :])


def _wrong_by_mm(pair: Pair, case: Case) -> float | None:
    """Return how far the left one lies to the right of the right one: 0 if it does not.

    None if one of them is absent. World x of RAS+ grows to the right.
    """
    if not {pair.left, pair.right} <= case.labels.keys():
        return None
    left_mm, right_mm = (number(one, case, "centroid_x_mm") for one in (pair.left, pair.right))
    ends_mm = [number(one, case, f"x_{end}_mm")
               for one in (pair.left, pair.right) for end in ("min", "max")]  # fmt: skip
    known_mm = [mm for mm in ends_mm if mm is not None]
    if left_mm is None or right_mm is None or len(known_mm) < len(ends_mm):
        return None
    away_mm = left_mm - right_mm
    return away_mm if away_mm > _LEAST * (max(known_mm) - min(known_mm)) else 0.0


def _by_mm(one: _Exchange) -> float:
    return one.mm


def _what(worst: _Exchange, pairs: int, names: Mapping[str, str]) -> str:
    more = {1: "", 2: ", and so does 1 more pair"}.get(pairs, f", and so do {pairs - 1} more pairs")
    return f"lies to the right of {shown(names[worst.pair.right])} by {worst.mm:.3g} mm{more}"
