"""What was measured on this machine, kept in the user's cache folder.

One small JSON file per key (machine, bundle, shape, versions).
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unet_pipeline.choices import EngineName
from unet_pipeline.inference.cache import file_of, plain, write_whole
from unet_pipeline.inference.engine_choice import Agreement
from unet_pipeline.records import json_text

_CPUINFO = Path("/proc/cpuinfo")


def cpu_model() -> str:
    """Return the name of this machine's processor, and its number of cores."""
    name = platform.processor() or platform.machine()
    if _CPUINFO.is_file():
        lines = _CPUINFO.read_text().splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(named, name)
    return f"{name}, {os.cpu_count()} cores"


@dataclass(frozen=True)
class Measurements:
    """What is known of the engines of one model on one machine: seconds per window, agreement."""

    seconds: Mapping[EngineName, float] = field(default_factory=dict)
    agreements: Mapping[EngineName, Agreement] = field(default_factory=dict)


def load_measurements(key: Mapping[str, Any]) -> Measurements:
    """Return what was kept about a key: nothing if it cannot be read."""
    try:
        found = json.loads(_file(key).read_bytes())
        if found["question"] != plain(key):
            return Measurements()
        agreements = {name: Agreement(**values) for name, values in found["agreements"].items()}
        return Measurements({name: float(v) for name, v in found["seconds"].items()}, agreements)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Measurements()


def save_measurements(key: Mapping[str, Any], known: Measurements) -> None:
    """Keep what is known, whole or not at all."""
    data = json_text({"question": plain(key), **asdict(known)}, indent=2) + "\n"
    write_whole(_file(key), data.encode())


def _file(key: Mapping[str, Any]) -> Path:
    return file_of("engines", key, ".json")
