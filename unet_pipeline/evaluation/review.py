"""Which label maps of a cohort want a look: those that are unlike the others, worst first.

Each number about a label (``label_statistics``) is held against its distribution over all cases: a
robust z, the distance from the median in units of 1.4826 times the median absolute deviation (MAD;
Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993). Up to half of the cases may be bad
without moving either. Below ``LEAST_CASES`` nothing is said of that. Whether left and right are
exchanged is known by names (``laterality``), and of each case by itself;
``follow_up`` holds a scan against the last one of the same subject.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from unet_pipeline.evaluation.doubts import (
    LEAST_CASES,
    MOST,
    Case,
    Doubt,
    log_volume,
    ml_text,
    number,
    robust_z,
)
from unet_pipeline.evaluation.follow_up import changed, moved, previous_scans
from unet_pipeline.evaluation.groups import NOBODY, Group, populations
from unet_pipeline.evaluation.label_statistics import PADDING
from unet_pipeline.evaluation.laterality import exchanged
from unet_pipeline.evaluation.prediction import PREDICTED
from unet_pipeline.records import CaseRecord

DOUBTFUL = 3.5  # robust z
_USUAL = 0.95  # share of cases that have a label which is missed where it is absent
SCATTERED = "share outside of its largest part"
_OF_INTERVAL = 1.645  # of a normal distribution: half of an interval of 90 % / standard deviation
_LEAST_DICE = 0.02  # the smallest deviation of a Dice that counts as one


@dataclass(frozen=True)
class Review:
    """A case that wants a look, its gravest doubt first."""

    case: str
    doubts: tuple[Doubt, ...]

    @property
    def score(self) -> float:
        """The score of its gravest doubt."""
        return self.doubts[0].score


@dataclass(frozen=True)
class _Measure:
    """A number about a label whose distribution is looked at.

    Attributes
    ----------
    of
        Returns it for a label of a case, or None where it says nothing.
    least
        The smallest deviation that counts as one, in its own unit.
    shown
        Writes it for people.
    low_only
        Whether only what is too small is doubtful.
    of_size
        Whether it is held against patients of that sex and age, where these are known.
    """

    name: str
    of: Callable[[str, Case], float | None]
    least: float
    shown: Callable[[float], str]
    low_only: bool = False
    of_size: bool = False


def review(
    records: Sequence[CaseRecord],
    names: Mapping[str, str] | None = None,
    least: float = DOUBTFUL,
    others: Sequence[CaseRecord] = (),
    groups: Mapping[str, Group] = MappingProxyType({}),
) -> list[Review]:
    """Return the cases that want a look, worst first.

    Parameters
    ----------
    records
        Of all cases of an output; those without statistics are left out.
    names
        Name of each label, by its number as text: where some are of a left and a right structure,
        they have to lie there.
    least
        Score from which something is doubtful.
    others
        Further cases: what is usual is learned from them, too, and they are not looked at.
    groups
        Sex and age of patients, by case, where they are known.
    """
    known = _known(records)
    doubts: dict[str, list[Doubt]] = {one.name: [] for one in known}
    for case, doubt in exchanged(known, names or {}):
        doubts[case].append(doubt)
    every = [*known, *_known(others)]
    previous = previous_scans(one.name for one in every)
    for label in sorted({label for one in known for label in one.labels}):
        for case, doubt in _doubts_about(label, every, previous, least, groups):
            if case in doubts:
                doubts[case].append(doubt)
    for case, doubt in moved(every, previous, least):
        if case in doubts:
            doubts[case].append(doubt)
    found = [
        Review(case, tuple(sorted(each, key=lambda one: -one.score)))
        for case, each in doubts.items()
        if each
    ]
    return sorted(found, key=lambda one: (-one.score, one.case))


def _known(records: Sequence[CaseRecord]) -> list[Case]:
    return [
        Case(one.case, one.statistics)
        for one in records
        if one.statistics and one.status != "quarantined"
    ]


def _doubts_about(
    label: str,
    cases: Sequence[Case],
    previous: Mapping[str, str],
    least: float,
    groups: Mapping[str, Group],
) -> Iterator[tuple[str, Doubt]]:
    asked = [one for one in cases if label in one.labels]
    there = [one for one in asked if one.labels[label].get("voxels")]
    if len(there) < LEAST_CASES:
        return
    if len(there) >= _USUAL * len(asked):
        for one in asked:
            if not one.labels[label].get("voxels"):
                yield one.name, Doubt(label, MOST, f"absent, in {len(there)} cases it is there")
    for measure in _MEASURES:
        yield from _outliers(label, measure, there, least, groups)
    yield from _poor(label, there, least)
    yield from changed(label, there, previous, least)


def _outliers(
    label: str,
    measure: _Measure,
    cases: Sequence[Case],
    least: float,
    groups: Mapping[str, Group],
) -> Iterator[tuple[str, Doubt]]:
    """Yield the cases whose number is far from the others'."""
    values = [(one.name, measure.of(label, one)) for one in cases]
    told = [(case, value) for case, value in values if value is not None]
    if len(told) < LEAST_CASES:
        return
    numbers = np.array([value for _, value in told])
    known = [groups.get(case, NOBODY) if measure.of_size else NOBODY for case, _ in told]
    for one in populations(known, LEAST_CASES):
        among = numbers[one.among]
        scores = robust_z(numbers, measure.least, among)
        if measure.low_only:
            scores = np.where(numbers < np.median(among), scores, 0.0)
        low, high = (measure.shown(end) for end in np.percentile(among, (5, 95)))
        usual = f"usually {low} to {high}" + (f" in {one.what}" if one.what else "")
        for index in np.flatnonzero(one.judged & (scores >= least)):
            case, value = told[index]
            what = f"{measure.name} {measure.shown(value)}, {usual}"
            yield case, Doubt(label, min(float(scores[index]), MOST), what)


def _poor(label: str, cases: Sequence[Case], least: float) -> Iterator[tuple[str, Doubt]]:
    """Yield the cases whose predicted Dice is far below the usual one, by its own interval."""
    named = [(one.name, [number(label, one, name) for name in PREDICTED])
             for one in cases]  # fmt: skip
    told = [(case, value, low, high) for case, (value, low, high) in named
            if value is not None and low is not None and high is not None]  # fmt: skip
    if len(told) < LEAST_CASES:
        return
    usual = float(np.median([value for _, value, _, _ in told]))
    for case, value, low, high in told:
        deviation = max((high - value) / _OF_INTERVAL, _LEAST_DICE)
        score = max(usual - value, 0.0) / deviation
        if score >= least:
            what = f"predicted Dice {value:.2f} ({low:.2f} to {high:.2f}), usually {usual:.2f}"
            yield case, Doubt(label, min(score, MOST), what)


def _log_length(axis: str) -> Callable[[str, Case], float | None]:
    def of(label: str, case: Case) -> float | None:
        low, high = (number(label, case, f"{axis}_{end}_mm") for end in ("min", "max"))
        if low is None or high is None or high <= low or case.labels[label].get("cut"):
            return None
        return float(np.log(high - low))

    return of


def _place(axis: str) -> Callable[[str, Case], float | None]:
    """Return where a label lies beside the mean of all labels of its case, in mm."""

    def of(label: str, case: Case) -> float | None:
        own_mm, middle_mm = number(label, case, f"centroid_{axis}_mm"), case.middle_mm.get(axis)
        return None if own_mm is None or middle_mm is None else own_mm - middle_mm

    return of


def _of(name: str) -> Callable[[str, Case], float | None]:
    return lambda label, case: number(label, case, name)


def _scattered(label: str, case: Case) -> float | None:
    """Return the share of a label that is outside of its largest part."""
    share = number(label, case, "largest_part")
    return None if share is None else 1 - share


def _padded(label: str, case: Case) -> float | None:
    """Return the share of a label that lies where a scan was filled up; of channels, the most."""
    names = [name for name in case.labels[label] if name.startswith(PADDING)]
    shares = [share for name in names if (share := number(label, case, name)) is not None]
    return max(shares, default=None)


def _share(value: float) -> str:
    return f"{value:.2f}"


def _mm(value: float) -> str:
    return f"{np.exp(value):.0f} mm"


_MEASURES = (
    _Measure("volume", log_volume, 0.05, ml_text, of_size=True),
    _Measure(SCATTERED, _scattered, 0.01, lambda value: f"{value:.0%}"),
    _Measure("length from left to right", _log_length("x"), 0.05, _mm, of_size=True),
    _Measure("length from back to front", _log_length("y"), 0.05, _mm, of_size=True),
    _Measure("length from foot to head", _log_length("z"), 0.05, _mm, of_size=True),
    _Measure("right of the middle of all labels by", _place("x"), 2.0, lambda mm: f"{mm:.0f} mm"),
    _Measure("before the middle of all labels by", _place("y"), 2.0, lambda mm: f"{mm:.0f} mm"),
    _Measure("above the middle of all labels by", _place("z"), 2.0, lambda mm: f"{mm:.0f} mm"),
    _Measure("share outside of what was scanned", _padded, 0.05, lambda value: f"{value:.0%}"),
    _Measure("confidence", _of("confidence"), 0.01, _share, low_only=True),
    _Measure("confidence along its border", _of("confidence_border"), 0.01, _share, low_only=True),
)
