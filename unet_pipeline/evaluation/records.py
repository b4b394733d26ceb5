"""The plain records of an evaluation: what each candidate scored, and what follows from it.

A *candidate* is what takes part: a depth of a bundle, or a bundle.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Metric = Literal["dice", "iou", "nsd", "hd95_mm"]
METRICS: tuple[Metric, ...] = ("dice", "iou", "nsd", "hd95_mm")
_STORED_AS = {"results": "standings", "candidate": "entrant"}  # the keys of ``result.json``
METRIC_NAMES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd95_mm": "HD95 (mm)"}


@dataclass(frozen=True)
class Interval:
    """A mean over cases and its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelCost:
    """What a candidate costs.

    Attributes
    ----------
    parameters
        Number of weights.
    multiply_adds
        Of all convolutions, per window; None for a network that cannot be looked into.
    windows
        Mean number per case.
    ms_per_window
        Time in the network, in ms, with the batch of the run; the candidates were timed in turns.
    forward_seconds
        The same for a case of the mean number of windows.
    seconds
        Median over cases from reading to writing, as it was when each label map was made.
    """

    parameters: int
    multiply_adds: int | None
    windows: float
    ms_per_window: float
    forward_seconds: float
    seconds: float

    @property
    def multiply_adds_per_case(self) -> float | None:
        """Multiply-adds of a case of the mean number of windows."""
        return None if self.multiply_adds is None else self.multiply_adds * self.windows


@dataclass(frozen=True)
class CandidateResult:
    """How one candidate did.

    Attributes
    ----------
    metrics
        Mean over labels, then over cases, per metric; None where no case has a value.
    labels
        The same for each label (number as text).
    difference
        Its mean Dice less that of the candidate it is held against; None for that one itself.
    runs
        Mean Dice of each bundle, where the candidate is several (one network, several seeds).
    """

    name: str
    cost: ModelCost
    metrics: Mapping[Metric, Interval | None]
    labels: Mapping[str, Mapping[Metric, Interval | None]]
    difference: Interval | None = None
    runs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DepthChoice:
    """The cheapest depth that is good enough.

    Attributes
    ----------
    depth, best
        The depth chosen, and the one of the highest mean Dice; from 1.
    loss_bounds
        For each depth, shallow to deep: upper bound of its loss of mean Dice against the best,
        with the confidence asked for.
    shares
        For each depth: the share of resampled cohorts on which it would have been chosen.
    """

    depth: int
    best: int
    tolerance: float
    confidence: float
    loss_bounds: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def share(self) -> float:
        """Share of resampled cohorts that lead to the same choice."""
        return self.shares[self.depth - 1]


@dataclass(frozen=True)
class Comparison:
    """A paired test of the Dice of two candidates.

    Attributes
    ----------
    difference
        Mean over cases of the Dice of ``candidate`` less that of ``against``.
    p, p_holm
        Wilcoxon's signed-rank test, two-sided; and corrected for the number of comparisons.
    """

    candidate: str
    against: str
    difference: Interval
    p: float
    p_holm: float


@dataclass(frozen=True)
class Disagreement:
    """A case on which two candidates differ: the Dice of each, mean over labels."""

    case: str
    candidate: str
    against: str
    dice: float
    dice_against: float

    @property
    def difference(self) -> float:
        """Dice of ``candidate`` less that of ``against``."""
        return self.dice - self.dice_against


@dataclass(frozen=True)
class Remark:
    """Something that a reader should know before acting on the result."""

    code: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """A case that takes no part, and why."""

    case: str
    code: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """The result of ``depths`` or ``compare``.

    Attributes
    ----------
    kind
        Which of the two.
    against
        Name of the candidate that the others' differences are held against.
    cases
        Number of cases that every candidate was scored on.
    surface_mm
        Tolerance of the normalised surface Dice.
    confidence, resamples
        Of the intervals, two-sided.
    choice, bundles
        Of ``depths``: what was chosen, and URLs of the bundles written, by name.
    comparisons
        Of ``compare``: the paired tests.
    disagreements
        The largest differences, the largest first.
    folder
        Of the files of this run: ``report.html``, ``table.csv``, ``cases.csv``, ``result.json``
        and ``speed.png``.
    stopped
        Why the report could not be written to its own folder; empty if it was.
    names
        Name of each label, by its number as text.
    """

    kind: Literal["depths", "compare"]
    run_id: str
    against: str
    cases: int
    surface_mm: float
    confidence: float
    resamples: int
    results: tuple[CandidateResult, ...]
    disagreements: tuple[Disagreement, ...]
    remarks: tuple[Remark, ...]
    left_out: tuple[LeftOut, ...]
    seconds: float
    folder: str
    choice: DepthChoice | None = None
    comparisons: tuple[Comparison, ...] = ()
    bundles: Mapping[str, str] = field(default_factory=dict)
    stopped: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> str:
        """URL of the page."""
        return f"{self.folder}/report.html"

    @property
    def table(self) -> str:
        """URL of the table, a line per candidate."""
        return f"{self.folder}/table.csv"

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        found = asdict(self, dict_factory=_stored)
        return {**found, "report": self.report, "table": self.table}


def _stored(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {_STORED_AS.get(name, name): value for name, value in items}
