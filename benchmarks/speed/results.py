"""Rows of numbers from measurements: medians, ratios, the floor; kept as JSON."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from benchmarks.speed.cases import Case
from benchmarks.speed.contenders import PEER_NAMES, Equipment
from benchmarks.speed.run import Measured

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"
_VERSIONS = ("torch", "monai", "numpy", "dask", "isal", "openvino")


def case_entry(case: Case, measured: Sequence[Measured], source: str) -> dict[str, Any]:
    """Return what is kept of a case: plain JSON types."""
    return {
        "about": case.about,
        "classes": case.classes,
        "window": case.window,
        "voxels_from": source,
        "measured_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "commit": _commit(),
        "repeats": max(len(one.times) for one in measured),
        "rows": [row_of(one, _peer_of(one, measured)) for one in measured],
    }


def row_of(one: Measured, peer: Measured | None) -> dict[str, Any]:
    """Return a contender's row; with a peer also how many times as long and as much it takes."""
    contender = one.contender
    row = {
        "name": contender.name,
        "kind": contender.kind,
        "model": contender.model,
        "cluster": contender.cluster,
        "engine": contender.engine,
        "failure": one.failure,
        "peak_gb": round(max(m.peak_bytes for m in one.times) / 1e9, 3),
        "agreements": [asdict(agreement) for agreement in one.agreements],
    }
    if one.failure:
        return row
    found = [measurement.found for measurement in one.times]
    row |= {
        "wall_seconds": _middle([m.wall_seconds for m in one.times]),
        "wall_seconds_all": [round(m.wall_seconds, 3) for m in one.times],
        "work_seconds": _middle([f["work_seconds"] for f in found]),
        "work_seconds_all": [round(f["work_seconds"], 3) for f in found],
        "forward_seconds": _middle([f["forward_seconds"] for f in found]),
        "forward_share": _middle([f["forward_seconds"] / f["work_seconds"] for f in found]),
        "windows": found[-1]["windows"],
        "versions": found[-1]["versions"],
    }
    if contender.kind == "ours":
        row |= _of_ours(found)
        if peer is not None:
            row |= _against(one, peer)
    return row


def save(path: Path, machine: dict[str, Any], cases: dict[str, Any]) -> dict[str, Any]:
    """Write cases beside those of the same machine that are there; return all that is there now."""
    before = json.loads(path.read_text()) if path.is_file() else {"cases": {}}
    now = {"machine": machine, "cases": {**before["cases"], **cases}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(now, indent=1) + "\n")
    return now


def machine_of(equipment: Equipment) -> dict[str, Any]:
    """Say what machine this is."""
    cuda = equipment.device == "cuda"
    return {
        "name": torch.cuda.get_device_name() if cuda else _cpu(),
        "cores": os.cpu_count(),
        "threads": equipment.threads,
        "device": equipment.device,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _VERSIONS},
    }


def file_of(machine: dict[str, Any]) -> Path:
    """Return where the results of a machine are kept."""
    name = f"{machine['name']}-{machine['cores']}-cores"
    return FOLDER / f"speed-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def _of_ours(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    floors = [
        f["windows"] * f["best_forward_seconds"] + f["decode_seconds"] + f["encode_seconds"]
        for f in found
    ]
    over = [f["work_seconds"] / floor for f, floor in zip(found, floors, strict=True)]
    stages = {k: _middle([f["stages"].get(k, 0.0) for f in found]) for k in found[-1]["stages"]}
    return {
        "engine_used": found[-1]["engine"],
        "windows_planned": found[-1]["windows_planned"],
        "tiles": found[-1]["tiles"],
        "best_forward_seconds": _middle([f["best_forward_seconds"] for f in found]),
        "codec_seconds": _middle([f["decode_seconds"] + f["encode_seconds"] for f in found]),
        "floor_seconds": _middle(floors),
        "work_over_floor": _middle(over),
        "stages": stages,
    }


def _against(one: Measured, peer: Measured) -> dict[str, Any]:
    """Return how many times as long a peer takes (median of each turn's ratio), and memory."""
    mine, theirs = _peak(one), _peak(peer)
    row: dict[str, Any] = {"peer": peer.contender.name, "peer_failure": peer.failure}
    row["peak_of_peer"] = round(mine / theirs, 4)
    if peer.failure:
        return row
    turns = list(zip(one.times, peer.times, strict=True))
    work = [b.found["work_seconds"] / a.found["work_seconds"] for a, b in turns]
    wall = [b.wall_seconds / a.wall_seconds for a, b in turns]
    return {**row, "times_faster_work": _middle(work), "times_faster_wall": _middle(wall)}


def _peer_of(one: Measured, measured: Sequence[Measured]) -> Measured | None:
    same = (m for m in measured if m.contender.model == one.contender.model)
    return next((m for m in same if m.contender.kind in PEER_NAMES), None)


def _peak(one: Measured) -> int:
    return max(measurement.peak_bytes for measurement in one.times)


def _middle(values: Sequence[float]) -> float:
    return round(median(values), 4)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if _is_linux() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _is_linux() -> bool:
    return Path("/proc/cpuinfo").is_file()


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return ""


def _commit() -> str:
    """Return the commit, with a plus where files have changed since; empty outside of git."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + "+" * bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
