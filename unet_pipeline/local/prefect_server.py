"""A real Prefect server on loopback, and its worker: ``prefect`` as programs of their own.

Prefect is only started here; it is imported in ``flows/`` alone.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.local import processes
from unet_pipeline.local.password import AUTH, SERVER_AUTH, Password, password_of, write_profile
from unet_pipeline.local.retry import BUSY_PAUSES
from unet_pipeline.private import own_folder
from unet_pipeline.records import json_text

ANSWER_SECONDS = 30.0  # for an answer of the server
DEFAULT_PORT = 4200
POOL = "local"
START_SECONDS = 120.0
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "unet_pipeline",
}


@dataclass(frozen=True)
class PrefectServer:
    """A running server.

    Attributes
    ----------
    url
        Address of the web page.
    env
        Environment in which the ``prefect`` program, flows and workers use this server.
    home
        Folder of its database and logs.
    process
        The server itself.
    password
        What it asks everyone for; ``env`` has it, too.
    """

    url: str
    env: Mapping[str, str] = field(repr=False)
    home: Path
    process: processes.Process
    password: Password

    def prefect(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Run the ``prefect`` program and return what it prints.

        Raises
        ------
        RequestError
            ``prefect_failed``, with the last line that it printed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env={**self.env, **(env or {})},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
            raise prefect_failed(
                f"`prefect {' '.join(arguments[:2])}` to end with: {said[-1]}", self.home
            )
        return done.stdout

    def api(
        self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None
    ) -> Any:
        """Ask the server's API: by default POST with a body, or else GET.

        None if there is no such thing, or no answer to give.

        Where its database is busy it is asked again, as Prefect's own clients do: that is a 503, or
        no answer, for a writer may hold a file of SQLite for a minute.
        """
        token = b64encode(self.password.text.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
        request = urllib.request.Request(  # noqa: S310  loopback only
            f"{self.url}/api{path}",
            None if body is None else json_text(body).encode(),
            headers,
            method=method,
        )
        pauses = iter(BUSY_PAUSES)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code == HTTPStatus.NOT_FOUND:
                    return None
                busy = error.code == HTTPStatus.SERVICE_UNAVAILABLE
                pause = next(pauses, None) if busy else None
                if pause is None:
                    raise prefect_failed(f"status {error.code} of {path}", self.home) from error
                time.sleep(pause)
            except TimeoutError as error:
                if next(pauses, None) is None:
                    raise prefect_failed(f"no answer to {path}", self.home) from error


@contextmanager
def prefect_server(home: Path, port: int | None = None) -> Iterator[PrefectServer]:
    """Run a Prefect server on loopback until the block ends.

    It asks everyone for user and password: those of ``PREFECT_SERVER_API_AUTH_STRING``
    (``user:password``), or a password that is made and kept in ``home``. It answers on this machine
    only, under the names of loopback only, and to no page of another origin.

    Parameters
    ----------
    home
        Folder of its database, settings and logs, which others may not enter; the user's own
        Prefect settings are not used.
    port
        0 for any free port. Default: 4200 if it is free, else any free port.

    Raises
    ------
    RequestError
        ``home_in_use``, ``port_taken``, ``folder_not_private`` or ``prefect_failed``.
    """
    home = home.resolve()
    own_folder(home)
    port = _free_port(port)
    url = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env = {
        **kept,
        **QUIET,
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }
    with _alone(home):
        password = password_of(home)
        write_profile(home, url, password)
        env |= {AUTH: password.text}
        command = ["unet_pipeline_flows.server", "--port", str(port)]
        guarded = {**env, SERVER_AUTH: password.text}
        with _running(command, guarded, home / "server.log") as process:
            _wait(lambda: _answers(f"{url}/api/health"), process, home)
            yield PrefectServer(url, env, home, process, password)


@contextmanager
def worker(
    server: PrefectServer, limit: int = 4, env: Mapping[str, str] | None = None
) -> Iterator[processes.Process]:
    """Run the only process worker of the pool ``local`` until the block ends.

    Parameters
    ----------
    limit
        Runs at a time.
    env
        Variables of the worker and its runs, beside the server's. A run has no say in them: the
        pool takes neither variables nor commands from it.
    """
    _make_pool(server)
    close_abandoned_runs(server)
    start = ["prefect", "worker", "start", "--pool", POOL]
    command = [*start, "--limit", str(limit), "--name", "local"]
    with _running(command, {**server.env, **(env or {})}, server.home / "worker.log") as process:
        yield process


def _make_pool(server: PrefectServer) -> None:
    """Make the pool, or tell it anew what its processes are told.

    As ``prefect work-pool create --overwrite`` does, without starting a program for it.
    """
    told = {"base_job_template": json.loads(deployment_file("work-pool.json").read_text())}
    if server.api(f"/work_pools/{POOL}") is None:
        server.api("/work_pools/", {"name": POOL, "type": "process", **told})
    else:
        server.api(f"/work_pools/{POOL}", told, method="PATCH")


def close_abandoned_runs(server: PrefectServer) -> None:
    """Mark as crashed what ran when the worker before this one ended.

    Prefect would show such runs as running for ever, and count them: a deployment that allows one
    run at a time would not start again.
    """
    began = {"any_": ["PENDING", "RUNNING", "CANCELLING"]}
    body = {"flow_runs": {"state": {"type": began}}, "work_pools": {"name": {"any_": [POOL]}}}
    crashed = {
        "type": "CRASHED",
        "message": "Its worker was stopped. Run it again: cases that are finished are skipped.",
    }
    for run in server.api("/flow_runs/filter", body):
        server.api(f"/flow_runs/{run['id']}/set_state", {"state": crashed, "force": True})


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder of a server, which is for one at a time."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RequestError(
                "home_in_use",
                subject=str(home),
                found="a Prefect server that runs in this folder already",
                wanted="one server at a time",
                remedy="Use that one, stop it, or choose another folder with --home",
            ) from error
        yield


@contextmanager
def _running(
    arguments: list[str], env: Mapping[str, str], logfile: Path
) -> Iterator[processes.Process]:
    process = processes.start([sys.executable, "-m", *arguments], env=env, log=logfile)
    try:
        yield process
    finally:
        processes.stop(process, grace_s=10)


def _wait(ready: Callable[[], bool], process: processes.Process, home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise prefect_failed("a Prefect server that does not start", home)
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  loopback only
            return bool(json.load(answer))
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _free_port(wanted: int | None) -> int:
    """Return the wanted port if it is free; without a wish 4200, or else any free one."""
    for port in (DEFAULT_PORT, 0) if wanted is None else (wanted,):
        with socket() as probe:
            # As servers do: connections of one that has just ended do not occupy its port.
            probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RequestError(
        "port_taken",
        found=f"port {wanted} in use",
        wanted="a free port",
        remedy="Choose another with --port, or leave it out",
    )


def deployment_file(name: str) -> Path:
    """Return a file of ``deploy``: of the checkout, or of the installed package."""
    root = Path(__file__).parents[2]
    for path in (root / "deploy" / name, root / "unet_pipeline_flows" / name):
        if path.is_file():
            return path
    raise prefect_failed(f"an installation without {name}", root)


def prefect_failed(found: str, home: Path) -> RequestError:
    """Return the error that says what Prefect did instead of what it should."""
    return RequestError(
        "prefect_failed",
        found=found,
        wanted="a local Prefect server",
        remedy=f"Look into the logs in {home}",
    )
