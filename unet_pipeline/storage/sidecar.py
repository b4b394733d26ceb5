"""The record beside a label map: of what a finished case was made, and what came of it.

Our own writing::

    {"made_by": "unet-pipeline", "format": 1, "state": "done",
     "written": ["sha256:...", ...],          files of ours at this output, by their digests
     "run_id": "...", "weights": "sha256:...", "settings_digest": "sha256:...", ...,
     "inputs": [{"role": "image0", "size": 123, "etag": "...", "sha256": "sha256:..."}, ...],
     "output": {"bytes": 456, "sha256": "sha256:...", "etag": "..."},
     "windows": 8, "dice": {"1": 0.9}, "gate": {...}, "seconds": {...}, ...}

What lies there is read as a stranger's file, and two questions are asked of it. *Is the case done?*
Only if all of it is sound: ``read_sidecar`` holds it against the types of ``Sidecar``. *Is a file
beside it ours?* Only if the digest of the file stands in it; that is answered from what is left of
it, too (``read_stamp``), for a damaged record must not make a label map of ours a stranger's.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Annotated, Any

from pydantic import Field, Strict, TypeAdapter

from unet_pipeline.cost import with_wait
from unet_pipeline.records import CaseRecord, Status, Verdict, json_bytes

MADE_BY = "unet-pipeline"
FORMAT = 1
DONE, BEGUN = "done", "begun"
LESS_MEMORY = "less_memory"
_STAMP = {"made_by": MADE_BY, "format": FORMAT}
_DIGEST = "sha256:[0-9a-f]{64}"
MOST_BYTES = 16 * 2**20  # of a record; ours have some kB
_HEAD_BYTES = 2**14  # of a damaged record; ours names its files at once

Sha256 = Annotated[str, Field(pattern=f"^{_DIGEST}$")]
Role = Annotated[str, Field(pattern=r"^(image[0-9]{1,4}|mask[0-9]{0,5})(\.voxels)?$")]
Code = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_ .-]{1,64}$")]
Text = Annotated[str, Field(max_length=2**20)]  # a bound also refuses half a surrogate pair
Count = Annotated[int, Strict(), Field(ge=0, lt=2**53)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Measured = Annotated[Number, Field(ge=-1e12, le=1e12)]
Sides = Annotated[str, Field(pattern="^[LRAPSI]{0,6}$")]
Seconds = Annotated[Number, Field(ge=0, le=1e9)]
Dice = Annotated[Number, Field(ge=0, le=1)]
_Row = tuple[Number, Number, Number, Number]


@dataclass(frozen=True)
class MemberFacts:
    """One of the bundles whose scores were averaged: its name, digests of weights and config."""

    model: Text
    weights: Sha256
    config: Sha256


@dataclass(frozen=True)
class RunFacts:
    """What all cases of a run are made with.

    Attributes
    ----------
    model, weights
        Name of the bundle, and digest of its weights.
    settings, settings_digest
        All that can change a label.
    engine
        What executed the network, and why.
    labels
        Name of each label, by its number as text.
    versions
        Of the libraries that compute.
    postprocessing_ignored
        Steps of the bundle that were left out on request.
    members
        Of an ensemble; empty for one model.
    """

    run_id: Text
    model: Text
    weights: Sha256
    settings: Mapping[str, Any]
    settings_digest: Sha256
    engine: Mapping[str, Any]
    labels: Mapping[str, str]
    versions: Mapping[str, str]
    postprocessing_ignored: tuple[Text, ...] = ()
    members: tuple[MemberFacts, ...] = ()


@dataclass(frozen=True)
class InputDigest:
    """One input object of a case.

    Attributes
    ----------
    role
        ``image0``, ``image1`` ... by channel, or ``mask``; ``mask.voxels`` is the .img of a pair,
        ``mask3`` the part of a mask that is label 3.
    size
        Bytes, of the object as it is stored.
    etag
        As the store gave it before the content was read, or None.
    sha256
        Digest of the object as it is stored.
    """

    role: Role
    size: Count
    etag: str | None
    sha256: Sha256


@dataclass(frozen=True)
class OutputDigest:
    """The label map: ``etag`` as the store gave it for these very bytes, or None."""

    bytes: Count
    sha256: Sha256
    etag: str | None


@dataclass(frozen=True)
class Grid:
    """Where voxels lie; the affine by rows, voxel index -> world mm."""

    shape: tuple[Count, Count, Count]
    spacing_mm: tuple[Number, Number, Number]
    axcodes: Text
    affine: Annotated[tuple[_Row, ...], Field(min_length=4, max_length=4)]


@dataclass(frozen=True)
class Geometry:
    """The grid of the files, and the one that the network saw."""

    native: Grid
    model: Grid


@dataclass(frozen=True)
class GateNote:
    """What the gate said of a case that it let pass; as in ``CheckRecord``."""

    verdict: Verdict
    codes: tuple[Code, ...]
    residual_mm: Number | None
    message: Text
    fixed: tuple[Text, ...]

    def __post_init__(self) -> None:
        if self.verdict == "fail" or (self.verdict == "warn" and not self.codes):
            raise ValueError(f"GateNote must pass, or warn with a code, got {self}")


@dataclass(frozen=True)
class MaskFault:
    """Why a case was segmented and not scored: reason code and sentence."""

    code: Code
    message: Text


@dataclass(frozen=True)
class LabelChange:
    """What a step after the decision did to a label.

    Attributes
    ----------
    parts
        Connected parts that were removed, or holes that were filled.
    voxels, ml
        How much larger the label became: below 0 where something was removed.
    """

    step: Text
    label: Count
    parts: Count
    voxels: Annotated[int, Strict(), Field(gt=-(2**53), lt=2**53)]
    ml: Number

    @classmethod
    def of(
        cls, step: object, label: int, parts: int, voxels: int, voxel_ml: float
    ) -> "LabelChange":
        """Return what a step did, whose name is its text."""
        return cls(str(step), label, parts, voxels, round(voxels * voxel_ml, 6))


@dataclass(frozen=True)
class Traffic:
    """Bytes as stored: of headers, images and mask; of label map and picture."""

    read: Count
    written: Count


@dataclass(frozen=True)
class Sidecar:
    """The record of a finished case.

    Attributes
    ----------
    written
        Digests of label map and picture.
    windows_reused
        Windows whose scores were known, because each channel is one value.
    dice, seconds
        As in ``CaseRecord``.
    mask_fault
        Why there is no Dice, though there is a mask.
    label_changes
        What steps after the decision did (``postprocessing/``).
    statistics
        As in ``CaseRecord``.
    memory_steps
        What was done with less memory than asked for, where it ran out.
    """

    written: tuple[Sha256, ...]
    run: RunFacts
    case: Text
    inputs: tuple[InputDigest, ...]
    output: OutputDigest
    geometry: Geometry
    gate: GateNote
    windows: Count
    windows_reused: Count
    tiles: Count
    dice: Mapping[Name, Dice | None] | None
    seconds: Mapping[Name, Seconds]
    bytes: Traffic
    mask_fault: MaskFault | None = None
    label_changes: tuple[LabelChange, ...] = ()
    statistics: Mapping[Name, Mapping[Name, Measured | Sides]] = field(default_factory=dict)
    memory_steps: tuple[Text, ...] = ()

    def within(self, total: float) -> "Sidecar":
        """Return the record with the wall time that the case took."""
        seconds = with_wait(self.seconds, total)
        return replace(self, seconds={stage: round(value, 4) for stage, value in seconds.items()})

    def without_statistics(self, why: "MaskFault | None") -> "Sidecar":
        """Return what an index of many cases keeps of it, with another reason for no Dice."""
        return replace(self, statistics={}, label_changes=(), mask_fault=why)

    def record(self, status: Status, output: str, figure: str) -> CaseRecord:
        """Return the case's line in table and report; its code is the gate's first warning.

        Without one it says where memory ran out.

        Parameters
        ----------
        output, figure
            URLs of label map and picture.
        """
        warns, fault = self.gate.verdict == "warn", self.mask_fault
        code = self.gate.codes[0] if warns else LESS_MEMORY if self.memory_steps else ""
        said = [self.gate.message] if warns else []
        if self.memory_steps:
            said.append(f"Done with less memory than asked for: {'; '.join(self.memory_steps)}.")
        return CaseRecord(
            case=self.case,
            status=status,
            code=code,
            message=" ".join(said),
            output=output,
            windows=self.windows,
            dice=self.dice,
            seconds=self.seconds,
            figure=figure,
            bytes_read=self.bytes.read,
            bytes_written=self.bytes.written,
            mask_code="" if fault is None else fault.code,
            mask_message="" if fault is None else fault.message,
            statistics=self.statistics,
        )


def write_sidecar(sidecar: Sidecar, also: Mapping[str, Any] | None = None) -> bytes:
    """Return the record as it is stored: facts of the run and of the case in one table.

    Parameters
    ----------
    also
        Keys for other programs, which nothing of ours reads.
    """
    said = asdict(sidecar)
    first = {"state": DONE, "written": said.pop("written")}
    return stamped(**first, **said.pop("run"), **said, **(also or {}))


def read_sidecar(data: bytes) -> Sidecar | None:
    """Return a sound record of a finished case; None for anything else, whatever it is."""
    if len(data) > MOST_BYTES:
        return None
    try:
        said = _loads(data)
        for key, wanted in {**_STAMP, "state": DONE}.items():
            if said[key] != wanted or said[key] is True:
                return None
        return _types().validate_python({**said, "run": said})
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


@cache
def _types() -> TypeAdapter[Sidecar]:
    return TypeAdapter(Sidecar)


def stamped(**said: Any) -> bytes:
    """Return a record of our own writing; ``written`` belongs to its beginning."""
    return json_bytes({**_STAMP, **said})


@dataclass(frozen=True)
class Stamp:
    """What a record of ours says, whatever else is wrong with it.

    Attributes
    ----------
    run_id
        The run that wrote it, if it says so.
    files
        Digests of the files that it calls ours. Those of inputs are none of them: an input that
        was copied over a label map is not ours.
    """

    run_id: str | None
    files: frozenset[str]


def read_stamp(data: bytes) -> Stamp | None:
    """Return what a record, or what is left of one, says; None if it is not of our writing."""
    try:
        said = _loads(data)
        files = json.dumps([said.get("written"), said.get("output")])
    except (AttributeError, ValueError, RecursionError):
        head = data[:_HEAD_BYTES].decode("utf-8", "replace")
        if not head.lstrip().startswith("{") or f'"made_by": "{MADE_BY}"' not in head:
            return None
        return _stamp(None, head.partition('"written"')[2].partition("]")[0])
    if said.get("made_by") != MADE_BY and said.keys().isdisjoint({"settings_digest", "written"}):
        return None
    return _stamp(said.get("run_id"), files)


def _stamp(run_id: Any, files: str) -> Stamp:
    return Stamp(run_id if isinstance(run_id, str) else None, frozenset(re.findall(_DIGEST, files)))


def _loads(data: bytes) -> Any:
    """Parse JSON, without the numbers that JSON does not have."""
    return json.loads(data, parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise ValueError(name)
