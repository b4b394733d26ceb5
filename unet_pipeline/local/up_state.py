"""What ``up`` keeps running in its folder, for who asks from another terminal."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.local.flow_processes import flow_processes, lives
from unet_pipeline.local.password import kept_password, write_private
from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.local.prefect_server import PrefectServer
from unet_pipeline.local.prefect_worker import runs_under_way
from unet_pipeline.local.processes import Lasting

DEFAULT_HOME = Path.home() / ".unet-pipeline" / "prefect"
FILE, LOCK = "up.json", "lock"


@dataclass(frozen=True)
class Part:
    """A process: ``up`` itself, its server or its worker.

    Attributes
    ----------
    pid
        Its number.
    since
        When it was started: seconds since the epoch.
    starts
        How often it was, since ``up`` was.
    """

    pid: int
    since: float
    starts: int = 1

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return lives(self.pid)


@dataclass(frozen=True)
class RunUnderWay:
    """A run in progress.

    Attributes
    ----------
    name, state
        As its page says.
    since
        When it began, in ISO 8601; empty if it is about to.
    pid
        Its process, or 0 where none was found.
    """

    name: str
    state: str
    since: str
    pid: int


@dataclass(frozen=True)
class UpStatus:
    """What ``up`` keeps in a folder.

    Attributes
    ----------
    runs
        Runs in progress; None where the server did not say.
    """

    url: str
    up: Part
    server: Part
    worker: Part
    runs: tuple[RunUnderWay, ...] | None

    @property
    def serves(self) -> bool:
        """Whether a run that is asked for now would begin."""
        return self.runs is not None and self.server.lives and self.worker.lives


def write_state(server: PrefectServer, worker: Lasting, since: float) -> None:
    """Keep what runs in the server's folder; ``since`` is when this process began."""
    ours = {"up": Part(os.getpid(), since)}
    parts = ours | {"server": _part(server.process), "worker": _part(worker)}
    told = {"url": server.url, **{name: asdict(part) for name, part in parts.items()}}
    new = server.home / f"{FILE}.new"
    write_private(new, json.dumps(told))
    new.replace(server.home / FILE)


def read_status(home: Path) -> UpStatus | None:
    """Return what ``up`` keeps in a folder; None where it does not run, or is not ready yet."""
    if not is_in_use(home):
        return None
    try:
        told = json.loads((home / FILE).read_text())
        up, server, worker = (Part(**told[name]) for name in ("up", "server", "worker"))
        url = str(told["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not up.lives:  # of an earlier one, which was killed
        return None
    return UpStatus(url, up, server, worker, _runs(home, url))


def _part(process: Lasting) -> Part:
    return Part(process.pid, process.since, process.starts)


def is_in_use(home: Path) -> bool:
    """Say whether a server has this folder: its lock goes with it, however it ended."""
    try:
        with (home / LOCK).open() as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _runs(home: Path, url: str) -> tuple[RunUnderWay, ...] | None:
    password = kept_password(home)
    if password is None:
        return None
    api = PrefectApi(url=url, home=home, password=password)
    try:
        found = runs_under_way(api) if api.is_ready() else None
        if found is None:
            return None
        pids = flow_processes(home)
        return tuple(_run(api, run, pids.get(run["id"], 0)) for run in found)
    except (RequestError, OSError):
        return None


def _run(api: PrefectApi, run: Mapping[str, Any], pid: int) -> RunUnderWay:
    deployment = run["deployment_id"] and api.api(f"/deployments/{run['deployment_id']}")
    flow = api.api(f"/flows/{run['flow_id']}")
    name = "/".join(one["name"] for one in (flow, deployment) if one)
    since = (run["start_time"] or "").partition(".")[0]
    return RunUnderWay(f"{name} {run['name']}", run["state_name"], since, pid)
