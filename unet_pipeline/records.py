"""The plain records that travel between modules, processes and pages."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["done", "skipped", "quarantined"]
Verdict = Literal["pass", "warn", "fail"]


TRAINING = frozenset({"train", "training"})  # words of a manifest's column split


@dataclass(frozen=True)
class Case:
    """One subject's image and, where there is one, its reference mask.

    Attributes
    ----------
    name
        Unique in its cohort; a relative path without the NIfTI suffix, such as
        ``sub-01/anat/sub-01_T1w``.
    images
        URL of each channel, in channel order. Empty if a mask was found without an image.
    mask
        URL of the reference mask, or None.
    split, fold
        What the columns of these names say in a manifest, as text; empty without them.
    """

    name: str
    images: tuple[str, ...]
    mask: str | None = None
    split: str = ""
    fold: str = ""

    @property
    def output_name(self) -> str:
        """Path of the label map under the output prefix, without suffix: ``<name>_dseg``."""
        return f"{self.name}_dseg"

    @property
    def is_for_training(self) -> bool:
        """Whether a manifest gives the case to training, so that no score is taken on it."""
        return self.split in TRAINING


@dataclass(frozen=True)
class CaseRecord:
    """What became of one case. One line of ``segment --json``.

    Attributes
    ----------
    code, message
        Reason code and sentence of a quarantined case, or of a case that is done and that the
        gate warns about; empty otherwise.
    output
        URL of the label map, or None if none was written.
    windows
        Number of windows that the network evaluated for the label map.
    dice
        Dice per label (label number as text) against the reference mask, None without a mask.
        A label absent from both has the value None.
    seconds
        Seconds per stage: ``gate``, ``read``, ``infer``, ``merge``, ``write``, ``total`` and so on.
        ``infer`` is the time of the forward passes, summed over workers.
    figure
        URL of the overlay picture (PNG), or None.
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

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the labels that are present in the mask or the label map."""
        values = [value for value in (self.dice or {}).values() if value is not None]
        return sum(values) / len(values) if values else None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class RunSummary:
    """One cohort run, after its last case.

    Attributes
    ----------
    run_id
        Sortable identifier, e.g. ``20261121T013000Z-3f2a``.
    counts
        Number of cases per status.
    mean_dice
        Mean over cases of the Dice per label; empty without masks.
    cases_per_minute
        Cases finished (done) per minute of wall time.
    forward_share
        Seconds in forward passes / (wall seconds x workers), between 0 and 1.
    """

    run_id: str
    counts: Mapping[str, int]
    mean_dice: Mapping[str, float]
    seconds: float
    cases_per_minute: float
    forward_share: float
    report: str
    table: str

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self)


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
class AuditSummary:
    """One audit of a cohort, after its last case.

    Attributes
    ----------
    run_id
        Sortable identifier, e.g. ``20261121T013000Z-3f2a``.
    counts
        Number of cases per verdict.
    codes
        Number of cases per reason code of a finding that fails or warns, the most frequent first.
    content
        Whether voxels were looked at, or headers only.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class LayerRecord:
    """One layer of a network, and what an inspection found of it.

    Attributes
    ----------
    layer, kind
        Name of the module in the network, and its class.
    block
        Whether it is a stage or a node of the network, not a part of one.
    shape, scale
        Channels and voxels of its output for one window, (C, X, Y, Z) or (C, X, Y); the share of
        the window's voxels along each axis.
    multiply_adds
        For one window.
    side
        ``encoder``, ``decoder`` (has seen a coarser scale), ``output``, or empty if not known.
    place
        Column and row in the picture of the network.
    feeds
        Blocks that use its output without another block between them.
    probe_dice, probe_iou
        Dice and intersection over union per label (number as text) of a linear probe on its
        output, mean over the scored cases; None for a label that no case has.
    lost
        Mean Dice lost over the scored cases if its output is replaced by its mean.
    lost_cases
        The same for each scored case.
    lost_labels
        The same per label.
    lost_groups
        Mean Dice lost for each of its channel groups, replaced one at a time.
    figures
        URLs of its feature-map pictures.
    """

    layer: str
    kind: str
    block: bool
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    parameters: int
    multiply_adds: int
    side: str = ""
    place: tuple[float, float] | None = None
    feeds: tuple[str, ...] = ()
    probe_dice: Mapping[str, float | None] = field(default_factory=dict)
    probe_iou: Mapping[str, float | None] = field(default_factory=dict)
    lost: float | None = None
    lost_cases: tuple[float, ...] = ()
    lost_labels: Mapping[str, float | None] = field(default_factory=dict)
    lost_groups: tuple[float, ...] = ()
    figures: tuple[str, ...] = ()

    @property
    def mean_probe_dice(self) -> float | None:
        """Mean Dice of the probe over the labels, or None without one."""
        values = [value for value in self.probe_dice.values() if value is not None]
        return sum(values) / len(values) if values else None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class SideRecord:
    """One side of a network: all of its encoder blocks, or all of its decoder blocks.

    Attributes
    ----------
    lost
        Mean Dice lost if one channel group of every block of the side is replaced by its mean at
        once; over the groups and the scored cases.
    lost_cases
        The same for each scored case, over the groups.
    """

    side: str
    blocks: int
    parameters: int
    multiply_adds: int
    lost: float | None = None
    lost_cases: tuple[float, ...] = ()


@dataclass(frozen=True)
class LayersSummary:
    """One inspection of a network's layers, at its end.

    Attributes
    ----------
    fitted, scored
        Names of the cases that means and probes were fitted on, and of those scored.
    faults
        Cases that were left out: ``case``, ``code``, ``message``.
    dice
        Mean Dice per label of the network as it is, on the same voxels as all other numbers.
    groups
        Channel groups that each layer was divided into; 0 for none.
    advice
        Which side could be made smaller, and what speaks for it.
    table, report, picture
        URLs of the CSV file, of the page and of the picture of the network.
    """

    run_id: str
    model: str
    fitted: tuple[str, ...]
    scored: tuple[str, ...]
    faults: tuple[Mapping[str, str], ...]
    dice: Mapping[str, float | None]
    groups: int
    sides: tuple[SideRecord, ...]
    advice: str
    seconds: float
    table: str
    report: str
    picture: str

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice of the network over the labels."""
        values = [value for value in self.dice.values() if value is not None]
        return sum(values) / len(values) if values else None

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return plain JSON types as an indented JSON file."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
