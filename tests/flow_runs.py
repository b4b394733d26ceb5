"""Start flow runs on a real Prefect server, and ask it what became of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from cohorts import SmallCohort

from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.local.prefect_server import PrefectServer
from unet_pipeline.storage.store import join

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "copies_of_flows.py"
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


class Flow(Protocol):
    """A flow that runs in a process of its own."""

    returncode: int | None

    def communicate(self, input: None = None, timeout: float | None = None) -> tuple[str, Any]:
        """Wait for its end, and return what it said."""


def start_flow(
    server: PrefectServer,
    settings: Mapping[str, Any],
    folder: Path,
    module: str = "unet_pipeline_flows.segment",
) -> Flow:
    """Start the flow as plain Python."""
    request = folder / "settings.json"
    request.write_text(json.dumps(settings))
    return subprocess.Popen(
        [sys.executable, "-m", module, request],
        env={**server.env, **aws_variables()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Copies:
    """Flows in processes that are copies of one that has imported (``copies_of_flows.py``)."""

    def __init__(self, server: PrefectServer) -> None:
        self.server = server
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT],
            env={**server.env, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        settings: Mapping[str, Any],
        folder: Path,
        module: str = "unet_pipeline_flows.segment",
        env: Mapping[str, str] | None = None,
    ) -> Flow:
        """Do as ``start_flow``."""
        request = folder / "settings.json"
        request.write_text(json.dumps(settings))
        return self.run(folder, "-m", module, str(request), env=env)

    def run(self, folder: Path, *words: str, env: Mapping[str, str] | None = None) -> "Copy":
        """Start ``python WORDS``, with the server's variables and those of the store."""
        copy = Copy(folder / f"{uuid4()}.said", folder / f"{uuid4()}.code", self.process)
        order = {
            "words": words, "env": {**self.server.env, **aws_variables(), **(env or {})},
            "said": str(copy.said), "code": str(copy.code),
        }  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return copy

    def close(self) -> None:
        """End the process; those of its copies that still run end by themselves."""
        self.process.communicate()


@dataclass
class Copy:
    """A flow that runs in a copy; files of what it said and of its exit status."""

    said: Path
    code: Path
    parent: subprocess.Popen[str]
    returncode: int | None = None

    def communicate(self, input: None = None, timeout: float | None = None) -> tuple[str, None]:
        """Wait for its end, and return what it said."""

        def ended() -> str:
            assert self.parent.poll() is None, "the process whose copy it is has ended"
            return self.code.read_text() if self.code.exists() else ""

        self.returncode = int(wait_until(ended, timeout or 200))
        return self.said.read_text(), None


def aws_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def latest_run(server: PrefectApi, flow: str | None = None) -> dict[str, Any]:
    """Return the flow run that ended last, of one flow or of any."""
    asked: dict[str, Any] = {"flow_runs": {"state": {"type": {"any_": sorted(OVER)}}}}
    if flow is not None:
        asked["flows"] = {"name": {"any_": [flow]}}
    (run,) = server.api("/flow_runs/filter", {**asked, "sort": "END_TIME_DESC", "limit": 1})
    return run


def of_run(server: PrefectApi, kind: str, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ``task_runs`` or ``artifacts`` of a flow run."""
    found = server.api(f"/{kind}/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert isinstance(found, list)
    return found


def deployment(server: PrefectApi, name: str, flow: str = "segment") -> dict[str, Any]:
    found = server.api(f"/deployments/name/{flow}/{name}")
    assert found is not None
    return found


def start_run(
    server: PrefectApi, name: str, settings: Mapping[str, Any], flow: str = "segment"
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
    server: PrefectApi, run: Mapping[str, Any], seconds: float = 200
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


def form_fields(server: PrefectApi, flow: str) -> dict[str, Mapping[str, Any]]:
    """Return the fields of a run form by name, those in groups, too."""

    def found(schema: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if isinstance(schema, Mapping):
            yield from schema.get("properties", {}).items()
        parts = schema.values() if isinstance(schema, Mapping) else schema
        for part in parts:
            if isinstance(part, Mapping | list):
                yield from found(part)

    schema = deployment(server, "on-demand", flow)["parameter_openapi_schema"]
    return dict(found(schema["definitions"]))
