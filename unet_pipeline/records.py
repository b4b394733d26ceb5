"""The plain records that travel between modules, processes and pages."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["done", "skipped", "quarantined"]
Verdict = Literal["pass", "warn", "fail"]


TRAINING = frozenset({"train", "training"})  # words of a manifest's column split


@dataclass(frozen=True, slots=True)
class Part:
    """One structure of a reference mask that has a file for each: its label, name and URL."""

    label: int
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Case:
    """One subject's image and, where there is one, its reference mask.

    Attributes
    ----------
    name
        Unique in its cohort; a relative path without the ending of its format, such as
        ``sub-01/anat/sub-01_T1w``.
    images
        URL of each channel, in channel order. Empty if a mask was found without an image.
    mask
        URL of the reference mask, or None; of a mask in parts, of the first.
    parts
        The files of a mask that has one for each structure; empty for a mask in one file.
    split, fold, sex, age
        What the columns of these names say in a manifest, as text; empty without them. Sex and age
        say which cases are alike in size, and stand in no record, table or report.
    priority
        Of a manifest, too: cases with a higher one come first in a run.
    """

    name: str
    images: tuple[str, ...]
    mask: str | None = None
    split: str = ""
    fold: str = ""
    parts: tuple[Part, ...] = ()
    sex: str = field(default="", repr=False, compare=False)
    age: str = field(default="", repr=False, compare=False)
    priority: float = 0.0

    @property
    def mask_files(self) -> tuple[str, ...]:
        """URLs of the mask: none, one, or one for each part."""
        if self.parts:
            return tuple(part.url for part in self.parts)
        return () if self.mask is None else (self.mask,)

    @property
    def by_role(self) -> dict[str, str]:
        """URLs by role: ``image0``, ``image1`` ..., ``mask``; ``mask3`` is the part of label 3."""
        urls = {f"image{channel}": url for channel, url in enumerate(self.images)}
        if self.parts:
            return urls | {f"mask{part.label}": part.url for part in self.parts}
        return urls if self.mask is None else urls | {"mask": self.mask}

    @property
    def output_name(self) -> str:
        """Path of the label map under the output prefix, without suffix: ``<name>_dseg``."""
        return f"{self.name}_dseg"

    @property
    def is_for_training(self) -> bool:
        """Whether a manifest gives the case to training, so that no score is taken on it."""
        return self.split in TRAINING


def masks_text(masks: str | None, cases: Iterable[Case]) -> str:
    """Say for a report where the masks of a cohort come from."""
    if masks:
        return masks
    return "named by the manifest" if any(case.mask for case in cases) else "none"


@dataclass(frozen=True)
class CaseRecord:
    """What became of one case. One line of ``segment --json``.

    Attributes
    ----------
    code, message
        Reason code and sentence of a quarantined case, or of a case that is done and that the
        gate warns about, or for which memory ran out; empty otherwise.
    output
        URL of the label map, or None if none was written.
    windows
        Number of windows that the network evaluated for the label map.
    dice
        Dice per label (label number as text) against the reference mask, None without a mask.
        A label absent from both has the value None.
    seconds
        Seconds per stage, summed over workers: ``gate`` (headers), ``read`` (fetch and decode),
        ``preprocess``, ``look`` (the gate at the voxels), ``load`` (the network, once a
        worker), ``infer``, ``merge``, ``evaluate``, ``draw``, ``write``. ``forward`` is the part
        of ``infer`` in the network itself, ``total`` the wall time, ``wait`` what no stage
        accounts for. Of a skipped case: of the run that made its label map.
    figure
        URL of the overlay picture (PNG), or None.
    bytes_read, bytes_written
        As stored: of headers, images and mask; of label map and picture. A skipped case reads
        headers, and files of which the store keeps no etag.
    mask_code, mask_message
        Why there is no Dice, where masks were asked for: reason code and sentence.
    statistics
        Numbers about each label of the label map, by its number as text and the name of the
        statistic, such as ``volume_ml`` (``evaluation/label_statistics.py``).
    model
        The model, where a run has several; else empty.
    """

    case: str
    status: Status
    code: str = ""
    message: str = ""
    output: str | None = None
    windows: int = 0
    dice: Mapping[str, float | None] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    figure: str | None = None
    bytes_read: int = 0
    bytes_written: int = 0
    mask_code: str = ""
    mask_message: str = ""
    statistics: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    model: str = ""

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the labels that are present in the mask or the label map."""
        values = [value for value in (self.dice or {}).values() if value is not None]
        return sum(values) / len(values) if values else None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types."""
        return asdict(self)


def lowest_confidence(statistics: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the confidence of a case: the lowest of its labels; None where none is known."""
    values = [one.get("confidence") for one in statistics.values()]
    known = [float(value) for value in values if isinstance(value, int | float)]
    return min(known, default=None)


@dataclass(frozen=True)
class Rate:
    """What an hour of one worker costs, in ``currency``."""

    hourly: float
    currency: str


@dataclass(frozen=True)
class RunCost:
    """What a run cost. The file ``cost.json`` of a run.

    Attributes
    ----------
    cases, windows
        Cases that the run itself segmented (skipped ones cost nothing here), and their windows.
    worker_seconds
        Wall seconds x workers.
    device_seconds
        Seconds in the network, summed over workers.
    busy_share
        Device-seconds / worker-seconds.
    stage_seconds
        Seconds per stage as in ``CaseRecord``, summed over ``cases``.
    bytes_read, bytes_written
        As stored; of all cases.
    price, price_per_case
        Worker-hours x the hourly rate; None without a rate (or without a case).
    """

    cases: int
    windows: int
    workers: int
    wall_seconds: float
    worker_seconds: float
    device_seconds: float
    busy_share: float
    stage_seconds: Mapping[str, float]
    bytes_read: int
    bytes_written: int
    cases_per_hour: float
    rate: Rate | None = None
    price: float | None = None
    price_per_case: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the cost as plain JSON types, rounded to what can be meant."""
        plain = asdict(self)
        plain["stage_seconds"] = _rounded(plain["stage_seconds"])
        return _rounded(plain)


@dataclass(frozen=True)
class RunSummary:
    """One cohort run, after its last case.

    Attributes
    ----------
    run_id
        Sortable identifier, e.g. ``20261121T013000Z-3f2a07c1``.
    counts
        Number of cases per status.
    mean_dice
        Mean over cases of the Dice per label; empty without masks.
    cases_per_minute
        Cases finished (done) per minute of wall time.
    forward_share
        Seconds in forward passes / (wall seconds x workers), between 0 and 1.
    cost
        Seconds, bytes and, where a rate is given, money.
    files
        What became of all listed files: numbers of ``cases``, ``with_mask``, ``images``, ``masks``,
        ``ours``, and ``ignored`` by the reason.
    mask_faults
        Number of cases without a Dice per reason code, where masks were asked for.
    stopped, stop_code
        Why the run did not come to its end, in sentences and as a reason code; empty if it did.
    left
        Number of cases that it was asked for and did not come to.
    labels
        Name of each label, by its number as text.
    to_review
        Label maps that want a look, as they are unlike the others.
    model
        The model, where a run has several; else empty.
    shard
        The part of the cohort that the run was asked for, such as ``3/8``; empty for all of it.
    differences, changes
        URL of the page that holds the label maps against those of ``compare_with``, and a sentence
        for each label, or why it could not be done; empty without.
    """

    run_id: str
    counts: Mapping[str, int]
    mean_dice: Mapping[str, float]
    seconds: float
    cases_per_minute: float
    forward_share: float
    report: str
    table: str
    cost: RunCost
    files: Mapping[str, Any] | None = None
    mask_faults: Mapping[str, int] = field(default_factory=dict)
    stopped: str = ""
    stop_code: str = ""
    left: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    to_review: int = 0
    model: str = ""
    differences: str = ""
    changes: tuple[str, ...] = ()
    shard: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return {**asdict(self), "cost": self.cost.as_dict()}


@dataclass(frozen=True)
class CheckRecord:
    """What the gate says of one case. One line of ``check --json``.

    Attributes
    ----------
    codes
        Reason codes of all findings, the gravest first.
    residual_mm
        The largest distance that any finding measured, in mm; 0 where none did, None for a case
        whose header cannot be read.
    message
        The findings that fail or warn, in sentences.
    findings
        Each finding: ``code``, ``severity`` (its verdict), ``role`` (``image``, ``channel 2``,
        ``mask``), ``found``, ``wanted``, ``remedy``, ``residual_mm``, ``tolerance_mm``, ``fix``.
    fixed
        What was put right on request, e.g. ``mask: reorient``.
    bytes_read
        Bytes that were asked of the store.
    """

    case: str
    verdict: Verdict
    codes: tuple[str, ...] = ()
    residual_mm: float | None = 0.0
    message: str = ""
    findings: tuple[Mapping[str, Any], ...] = ()
    fixed: tuple[str, ...] = ()
    bytes_read: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class CheckSummary:
    """One check of a cohort, after its last case.

    Attributes
    ----------
    run_id
        Sortable identifier, e.g. ``20261121T013000Z-3f2a07c1``.
    counts
        Number of cases per verdict.
    codes
        Number of cases per reason code of a finding that fails or warns, the most frequent first.
    content
        Whether voxels were looked at, or headers only.
    manifest
        URL of the manifest of sound cases; empty if nothing was to be fixed.
    outside
        Prefixes that a run must allow to read that manifest, for sound files that stay in place.
    stopped
        Why the check did not come to its end; empty if it did.
    files
        As in ``RunSummary``.
    """

    run_id: str
    counts: Mapping[str, int]
    codes: Mapping[str, int]
    content: bool
    seconds: float
    cases_per_second: float
    bytes_read: int
    report: str
    table: str
    manifest: str = ""
    outside: tuple[str, ...] = ()
    stopped: str = ""
    files: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self)


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


def json_text(value: Any, **style: Any) -> str:
    """Return plain JSON types as JSON that every reader takes: NaN and infinity become null.

    The only place that writes JSON; ``style`` is of ``json.dumps``.
    """
    try:
        return json.dumps(value, allow_nan=False, **style)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **style)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return plain JSON types as an indented JSON file."""
    return (json_text(value, indent=2) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
