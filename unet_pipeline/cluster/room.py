"""How the memory of a worker is shared: its programs, its calls, what waits, what moves.

A third of a small worker is taken before the first call: torch, MONAI, a network. Of what is left,
some is for what moves between workers; half of the rest is for the calls that it has under way,
each with a budget of its own, and half for results that others need. Dask puts what is more on
disk.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from unet_pipeline.errors import RequestError

BASE_BYTES = 700_000_000  # of a worker that has imported, and loaded a small network
PAUSE_SHARE = 0.8  # of a worker's limit, at which Dask gives it no further call
LEAST_BYTES = 20_000_000  # with which a call gets anywhere
CONNECTIONS = 4  # to others and from others at a time; Dask would have ten each
MOVING_BYTES = 2 * CONNECTIONS * 60_000_000  # at most: Dask fetches up to 50 MB at a time


def shared_bytes(limit_bytes: int) -> int:
    """Return what calls and results of a worker may take together."""
    room = int(PAUSE_SHARE * limit_bytes) - BASE_BYTES
    return room - min(room // 3, MOVING_BYTES)


def call_bytes(limit_bytes: int, calls_at_once: int) -> int:
    """Return the budget of one call, on a worker with this limit.

    Raises
    ------
    RequestError
        ``worker_too_small``.
    """
    found = shared_bytes(limit_bytes) // 2 // calls_at_once
    if found < LEAST_BYTES:
        wanted = (BASE_BYTES + 3 * calls_at_once * LEAST_BYTES) / PAUSE_SHARE
        raise RequestError(
            "worker_too_small",
            found=f"workers with a memory of {limit_bytes / 1e9:.2f} GB",
            wanted=f"at least {wanted / 1e9:.2f} GB, for {BASE_BYTES / 1e9:.1f} GB are PyTorch, "
            f"MONAI and a small network, and {calls_at_once} calls are under way at once",
            remedy="Take fewer and larger workers (--workers, --worker-memory-gb, the site file)",
        )
    return found


def smallest_call(workers: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the smallest budget of a call on some workers, by their limits and their threads.

    Parameters
    ----------
    workers
        As Dask's scheduler knows them; those without a limit do not count, and None is for none.
    """
    limited = [(one["memory_limit"], one["nthreads"]) for one in workers if one["memory_limit"]]
    return min((call_bytes(*one) for one in limited), default=None)


def memory_config(limit_bytes: int) -> dict[str, Any]:
    """Return Dask's settings for workers with this limit: when results go to disk, what moves."""
    share = max(0.01, round(shared_bytes(limit_bytes) / 2 / limit_bytes, 3))
    return {
        "distributed.worker.memory.target": share,
        "distributed.worker.connections.outgoing": CONNECTIONS,
        "distributed.worker.connections.incoming": CONNECTIONS,
    }
