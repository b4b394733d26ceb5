"""What was measured on this machine, kept in the user's cache folder.

One small JSON file per question (machine, bundle, shape, versions). A cache may always be lost,
unreadable or read-only: then things are measured again.
"""

import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from unet_pipeline.inference.engines import EngineName
from unet_pipeline.inference.engines.parity import Agreement

log = logging.getLogger(__name__)

CACHE_VARIABLE = "UNET_PIPELINE_CACHE"
_CPUINFO = Path("/proc/cpuinfo")


def cache_folder() -> Path:
    """Return the folder of what can be measured again; it need not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "unet_pipeline"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "unet_pipeline"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unet_pipeline"


def cpu_model() -> str:
    """Return the name of this machine's processor, and its number of cores."""
    name = platform.processor() or platform.machine()
    if _CPUINFO.is_file():
        lines = _CPUINFO.read_text().splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(named, name)
    return f"{name}, {os.cpu_count()} cores"


@dataclass(frozen=True)
class Known:
    """What is known of the engines of one model on one machine: seconds per window, agreement."""

    seconds: Mapping[EngineName, float] = field(default_factory=dict)
    agreements: Mapping[EngineName, Agreement] = field(default_factory=dict)


def recall(question: Mapping[str, Any]) -> Known:
    """Return what was kept about a question: nothing if it cannot be read."""
    try:
        found = json.loads(_file(question).read_bytes())
        if found["question"] != _plain(question):
            return Known()
        agreements = {name: Agreement(**values) for name, values in found["agreements"].items()}
        return Known({name: float(v) for name, v in found["seconds"].items()}, agreements)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Known()


def keep(question: Mapping[str, Any], known: Known) -> None:
    """Keep what is known, whole or not at all."""
    path = _file(question)
    data = json.dumps({"question": _plain(question), **asdict(known)}, indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    except OSError as error:
        log.info("measurements are not kept: %s", error.strerror)


def _file(question: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(_plain(question)).encode()).hexdigest()
    return cache_folder() / "engines" / f"{digest[:32]}.json"


def _plain(question: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(question, sort_keys=True))
