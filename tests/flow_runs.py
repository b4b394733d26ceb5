"""Start flow runs on a real Prefect server, and ask it what became of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cohorts import SmallCohort

from unet_pipeline.local.prefect_server import PrefectServer
from unet_pipeline.storage.store import join

OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def settings_of(bucket: str, small: SmallCohort, **changes: Any) -> dict[str, Any]:
    return {
        "images": small.images,
        "masks": small.masks,
        "require_masks": True,
        "model": "phantom",
        "output": join(bucket, "out"),
        "cluster": {"kind": "serial", "threads": 1},
        **changes,
    }


def start_flow(
    server: PrefectServer,
    settings: Mapping[str, Any],
    folder: Path,
    module: str = "unet_pipeline_flows.segment",
) -> subprocess.Popen[str]:
    """Start the flow as plain Python, in a process of its own."""
    request = folder / "settings.json"
    request.write_text(json.dumps(settings))
    return subprocess.Popen(
        [sys.executable, "-m", module, request],
        env={**server.env, **aws_variables()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def aws_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def latest_run(server: PrefectServer) -> dict[str, Any]:
    """Return the flow run that ended last."""
    over = {"flow_runs": {"state": {"type": {"any_": sorted(OVER)}}}}
    (run,) = server.api("/flow_runs/filter", {**over, "sort": "END_TIME_DESC", "limit": 1})
    return run


def of_run(server: PrefectServer, kind: str, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ``task_runs`` or ``artifacts`` of a flow run."""
    found = server.api(f"/{kind}/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert isinstance(found, list)
    return found


def deployment(server: PrefectServer, name: str, flow: str = "segment") -> dict[str, Any]:
    found = server.api(f"/deployments/name/{flow}/{name}")
    assert found is not None
    return found


def start_run(
    server: PrefectServer, name: str, settings: Mapping[str, Any], flow: str = "segment"
) -> dict[str, Any]:
    """Ask for a run of a deployment, as the run form does; the keys are its worker's."""
    run = server.api(
        f"/deployments/{deployment(server, name, flow)['id']}/create_flow_run",
        {
            "parameters": {"settings": settings},
            "state": {"type": "SCHEDULED"},
        },
    )
    assert isinstance(run, dict)
    return run


def wait_for_run(
    server: PrefectServer, run: Mapping[str, Any], seconds: float = 200
) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        now = server.api(f"/flow_runs/{run['id']}")
        return now if now["state_type"] in OVER else None

    return wait_until(ended, seconds)


def wait_until(condition: Callable[[], Any], seconds: float = 200) -> Any:
    """Return what ``condition`` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)
    return value
