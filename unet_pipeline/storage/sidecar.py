"""The record beside a label map, read as what it is: a stranger's file.

Our own writing::

    {"made_by": "unet-pipeline", "format": 1, "state": "done",
     "written": ["sha256:...", ...],          files of ours at this output, by their digests
     "inputs": [{"role": "image0", "size": 123, "etag": "...", "sha256": "sha256:..."}, ...],
     "weights": "sha256:...", "settings_digest": "sha256:...",
     "output": {"bytes": 456, "sha256": "sha256:...", "etag": "..."},
     "windows": 8, "dice": {"1": 0.9}, "gate": {...}, "seconds": {...}, ...}

Two questions are asked of it. *Is the case done?* Only if all of it is sound (``parse_sidecar``).
*Is a file beside it ours?* Only if the digest of the file stands in it; that is answered from what
is left of it, too, for a damaged record must not make a label map of ours a stranger's.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unet_pipeline.records import MaskFault

MADE_BY = "unet-pipeline"
FORMAT = 1
DONE, BEGUN = "done", "begun"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ROLE = re.compile(r"(image[0-9]{1,4}|mask[0-9]{0,5})(\.voxels)?")
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_ .-]{1,64}")
_MARK = f'"made_by": "{MADE_BY}"'.encode()
_HEAD_BYTES = 2**14  # of a damaged record; ours names its files at once


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

    role: str
    size: int
    etag: str | None
    sha256: str


@dataclass(frozen=True)
class OutputDigest:
    """The label map: ``etag`` as the store gave it for these very bytes, or None."""

    bytes: int
    sha256: str
    etag: str | None


@dataclass(frozen=True)
class GateNote:
    """What the gate said of a case that it let pass."""

    verdict: str
    codes: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Sidecar:
    """A sound record of a finished case; everything in it has the type and the range it says."""

    weights: str
    settings_digest: str
    inputs: Mapping[str, InputDigest]
    output: OutputDigest
    windows: int
    dice: Mapping[str, float | None] | None
    seconds: Mapping[str, float]
    gate: GateNote
    mask_fault: MaskFault | None = None


def parse_sidecar(data: bytes) -> Sidecar | None:
    """Return a sound record of a finished case; None for anything else, whatever it is."""
    try:
        value = _loads(data)
        if value["state"] != DONE or value["format"] != FORMAT or value["format"] is True:
            return None
        _digests(value["written"])
        return Sidecar(
            weights=_matching(value["weights"], _DIGEST),
            settings_digest=_matching(value["settings_digest"], _DIGEST),
            inputs=_inputs(value["inputs"]),
            output=_output(value["output"]),
            windows=_count(value["windows"]),
            dice=_dice(value["dice"]),
            seconds=_numbers(value["seconds"], 1e9),
            gate=_gate(value["gate"]),
            mask_fault=_mask_fault(value.get("mask_fault")),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None


def is_ours(data: bytes) -> bool:
    """Say whether a record, or what is left of one, is of our own writing."""
    try:
        value = _loads(data)
    except (ValueError, RecursionError):
        return data[:_HEAD_BYTES].lstrip().startswith(b"{") and _MARK in data[:_HEAD_BYTES]
    return isinstance(value, dict) and (
        value.get("made_by") == MADE_BY or "settings_digest" in value or "written" in value
    )


def run_of(data: bytes) -> str | None:
    """Return the run that wrote a record of ours, if it says so."""
    try:
        value = _loads(data)
    except (ValueError, RecursionError):
        return None
    run = value.get("run_id") if isinstance(value, dict) else None
    return run if isinstance(run, str) else None


def digests_in(data: bytes) -> frozenset[str]:
    """Return the digests of the files that a record of ours, or what is left of it, calls ours.

    Digests of inputs are none of them: an input that was copied over a label map is not ours.
    """
    if not is_ours(data):
        return frozenset()
    try:
        value = _loads(data)
    except (ValueError, RecursionError):
        written = data[:_HEAD_BYTES].partition(b'"written"')[2].partition(b"]")[0]
        return frozenset(_DIGEST.findall(written.decode("utf-8", "replace")))
    named = json.dumps([value.get("written"), value.get("output")])
    return frozenset(_DIGEST.findall(named))


def _loads(data: bytes) -> Any:
    """Parse JSON, without the numbers that JSON does not have."""
    return json.loads(data, parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise ValueError(name)


def _matching(value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise TypeError(pattern.pattern)
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise TypeError("a count")
    return value


def _number(value: Any, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("a number")
    if not (math.isfinite(value) and 0 <= value <= most):
        raise ValueError("a number out of range")
    return float(value)


def _etag(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("an etag")
    return value


def _digests(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("digests")
    return [_matching(one, _DIGEST) for one in value]


def _inputs(value: Any) -> dict[str, InputDigest]:
    if not isinstance(value, list):
        raise TypeError("inputs")
    found = [
        InputDigest(
            _matching(one["role"], _ROLE),
            _count(one["size"]),
            _etag(one["etag"]),
            _matching(one["sha256"], _DIGEST),
        )
        for one in value
    ]
    return {one.role: one for one in found}


def _output(value: Any) -> OutputDigest:
    digest = _matching(value["sha256"], _DIGEST)
    return OutputDigest(_count(value["bytes"]), digest, _etag(value.get("etag")))


def _dice(value: Any) -> dict[str, float | None] | None:
    if value is None:
        return None
    return {
        _matching(label, _NAME): None if one is None else _number(one, 1.0)
        for label, one in _items(value)
    }


def _numbers(value: Any, most: float) -> dict[str, float]:
    return {_matching(name, _NAME): _number(one, most) for name, one in _items(value)}


def _gate(value: Any) -> GateNote:
    codes = [_matching(code, _CODE) for code in value["codes"]]
    message = value["message"]
    if not isinstance(value["codes"], list) or not isinstance(message, str):
        raise TypeError("gate")
    if value["verdict"] not in ("pass", "warn") or (value["verdict"] == "warn" and not codes):
        raise ValueError("verdict")
    message.encode()  # half a surrogate pair cannot be shown
    return GateNote(value["verdict"], tuple(codes), message)


def _mask_fault(value: Any) -> MaskFault | None:
    if value is None:
        return None
    message = value["message"]
    if not isinstance(message, str):
        raise TypeError("mask_fault")
    message.encode()
    return MaskFault(_matching(value["code"], _CODE), message)


def _items(value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError("a table")
    return value.items()
