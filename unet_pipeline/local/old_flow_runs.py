"""Old flow runs of a Prefect server, which keeps all of them unless it is told otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from unet_pipeline.local.prefect_api import PrefectApi

FLOWS = ("segment", "check", "train", "depths", "compare", "layers")  # ours; others are not touched
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_PAGE = 200


@dataclass(frozen=True)
class OldRun:
    """A flow run that has ended.

    Attributes
    ----------
    ended
        When, in UTC.
    """

    id: str
    name: str
    ended: datetime


def ended_runs(server: PrefectApi, before: datetime, keep: int) -> list[OldRun]:
    """Return the runs of our flows that ended before a moment, and are none of the newest."""
    return [run for run in _older_than_newest(server, keep) if run.ended < before]


def remove_run(server: PrefectApi, run: OldRun) -> bool:
    """Remove a run with its task runs, artifacts and logs; False for one that goes on again."""
    now = server.api(f"/flow_runs/{run.id}")
    if now is None or now["state_type"] not in _ENDED:
        return False
    of_it = {"flow_runs": {"id": {"any_": [run.id]}}, "limit": _PAGE}
    while found := server.api("/artifacts/filter", of_it):  # no run takes them along
        for one in found:
            server.api(f"/artifacts/{one['id']}", method="DELETE")
    server.api(f"/flow_runs/{run.id}", method="DELETE")
    return True


def _older_than_newest(server: PrefectApi, keep: int) -> Iterator[OldRun]:
    body: dict[str, Any] = {
        "flows": {"name": {"any_": list(FLOWS)}},
        "flow_runs": {"state": {"type": {"any_": list(_ENDED)}}},
        "sort": "END_TIME_DESC",
        "limit": _PAGE,
        "offset": keep,
    }
    while found := server.api("/flow_runs/filter", body):
        for one in found:
            if one["end_time"] is not None:
                ended = datetime.fromisoformat(one["end_time"])
                yield OldRun(one["id"], one["name"], ended)
        body["offset"] += len(found)
