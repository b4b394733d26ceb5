"""The worker of a local Prefect server, its pool, and the runs of workers that are gone."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from unet_pipeline.local import processes
from unet_pipeline.local.flow_processes import end_flow_processes
from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.local.prefect_server import PrefectServer, deployment_file

POOL = "local"
UNDER_WAY = ("PENDING", "RUNNING", "CANCELLING")


@contextmanager
def worker(
    server: PrefectServer, limit: int = 4, env: Mapping[str, str] | None = None
) -> Iterator[processes.Lasting]:
    """Run the only process worker of the pool ``local`` until the block ends.

    Flows that a killed worker left in this folder are ended before it starts, and its own with it.

    Parameters
    ----------
    limit
        Runs at a time.
    env
        Variables of the worker and its runs, beside the server's. A run has no say in them: the
        pool takes neither variables nor commands from it.
    """
    _make_pool(server)
    end_flow_processes(server.home)
    close_abandoned_runs(server)
    start = ["-m", "prefect", "worker", "start", "--pool", POOL]
    command = [sys.executable, *start, "--limit", str(limit), "--name", "local"]
    log = server.home / "worker.log"
    process = processes.Lasting(command, env={**server.env, **(env or {})}, log=log)
    try:
        yield process
    finally:
        end_flow_processes(server.home)  # before a worker that would tell them twice, and not wait
        process.stop()
        end_flow_processes(server.home)  # what it began meanwhile


def _make_pool(server: PrefectApi) -> None:
    """Make the pool, or tell it anew what its processes are told.

    As ``prefect work-pool create --overwrite`` does, without starting a program for it.
    """
    told = {"base_job_template": json.loads(deployment_file("work-pool.json").read_text())}
    if server.api(f"/work_pools/{POOL}") is None:
        server.api("/work_pools/", {"name": POOL, "type": "process", **told})
    else:
        server.api(f"/work_pools/{POOL}", told, method="PATCH")


def is_online(server: PrefectApi) -> bool:
    """Say whether a worker has told the server that it waits for runs."""
    found = server.api(f"/work_pools/{POOL}/workers/filter", {})
    return any(one["status"] == "ONLINE" for one in found)


def close_abandoned_runs(server: PrefectApi) -> None:
    """Mark as crashed what ran when the worker before this one ended.

    Prefect would show such runs as running for ever, and count them: a deployment that allows one
    run at a time would not start again.
    """
    for run in runs_under_way(server):
        set_state(server, run["id"], "CRASHED", STOPPED)


STOPPED = "Its worker was stopped. Run it again: cases that are finished are skipped."


def runs_under_way(server: PrefectApi) -> list[dict[str, Any]]:
    """Return the runs of the pool that have begun and not ended."""
    body = {
        "flow_runs": {"state": {"type": {"any_": UNDER_WAY}}},
        "work_pools": {"name": {"any_": [POOL]}},
    }
    found: list[dict[str, Any]] = server.api("/flow_runs/filter", body)
    return found


def set_state(server: PrefectApi, run_id: str, kind: str, message: str) -> None:
    """Say what became of a run, whatever its state says."""
    state = {"type": kind, "message": message}
    server.api(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})
