"""Networks that were converted for an engine, kept in the cache folder.

One file for each key (weights, configuration, shape, versions): a line of JSON, the graph, the
weights. Its digest is looked at before anything else is: a file that is damaged, or was written by
something else, is as none. Graph and weights are data; no code is in them.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.inference.cache import file_of, plain, write_whole
from unet_pipeline.records import json_text

log = logging.getLogger(__name__)

MOST_BYTES = 4 * 2**30  # of all files together; those that were not used for longest go


@dataclass(frozen=True)
class Graph:
    """A network as an engine writes it: its graph, and its weights."""

    graph: bytes
    weights: bytes


def load_graph(key: Mapping[str, Any]) -> Graph | None:
    """Return what was kept; None if that cannot be read or is not what was written."""
    path = _file(key)
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        said = json.loads(head)
        if said["question"] != plain(key) or said["sha256"] != _digest(body):
            return None
        size = int(said["graph_bytes"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    with suppress(OSError):
        path.touch()
    return Graph(body[:size], body[size:])


def save_graph(key: Mapping[str, Any], graph: Graph) -> None:
    """Keep a graph, and remove the oldest files where all together are too large."""
    body = graph.graph + graph.weights
    said = {
        "question": plain(key),
        "sha256": _digest(body),
        "graph_bytes": len(graph.graph),
    }
    path = _file(key)
    write_whole(path, json_text(said).encode() + b"\n" + body)
    _remove_oldest(path.parent)


def _remove_oldest(folder: Path) -> None:
    """Remove files until the rest are small enough; another process may do the same."""
    with suppress(OSError):
        found = [(path, path.stat()) for path in folder.iterdir()]
        left = sum(stat.st_size for _, stat in found)
        for path, stat in sorted(found, key=lambda one: one[1].st_mtime_ns):
            if left <= MOST_BYTES:
                return
            path.unlink(missing_ok=True)
            left -= stat.st_size


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _file(key: Mapping[str, Any]) -> Path:
    return file_of("graphs", key, ".graph")
