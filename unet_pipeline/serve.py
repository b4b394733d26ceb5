"""A local Prefect server with a worker and the deployments: ``unet-pipeline up``, and the demo's.

Prefect is only started as a program here; it is imported in ``flows/`` alone.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket

from unet_pipeline.errors import RequestError
from unet_pipeline.local import processes

log = logging.getLogger(__name__)

DEFAULT_PORT = 4200
POOL = "local"
FLOW = "segment-cohort"
START_SECONDS = 120.0
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "unet_pipeline",
}
NO_COHORT = {  # what the run form shows until a cohort is named
    "UNET_PIPELINE_IMAGES": "s3://scans/incoming",
    "UNET_PIPELINE_MODEL": "hippocampus",
    "UNET_PIPELINE_OUTPUT": "s3://results/segmentations",
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
    """

    url: str
    env: Mapping[str, str]
    home: Path

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
            cwd=self.home,  # becomes the working directory of runs: it must not go away
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
            raise _failed(f"`prefect {' '.join(arguments[:2])}` to end with: {said[-1]}", self.home)
        return done.stdout


@contextmanager
def prefect_server(home: Path, port: int | None = None) -> Iterator[PrefectServer]:
    """Run a Prefect server on loopback until the block ends.

    Parameters
    ----------
    home
        Folder of its database, settings and logs; the user's own Prefect settings are not used.
    port
        0 for any free port. Default: 4200 if it is free, else any free port.
    """
    home.mkdir(parents=True, exist_ok=True)
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
    command = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with _running(command, env, home / "server.log") as process:
        _wait(lambda: _answers(f"{url}/api/health"), process, home)
        yield PrefectServer(url, env, home)


@contextmanager
def worker(server: PrefectServer, limit: int = 4) -> Iterator[None]:
    """Run a process worker of the pool ``local`` until the block ends."""
    server.prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
    command = ["worker", "start", "--pool", POOL, "--limit", str(limit), "--name", "local"]
    with _running(command, server.env, server.home / "worker.log"):
        yield


def deploy(server: PrefectServer, cohort: Mapping[str, str] | None = None) -> None:
    """Register the deployments of ``prefect.yaml``.

    The schedule of ``nightly`` is on if a cohort is named, and else off. A ``nightly`` that is
    registered already stays as it is, with what was changed on its page, unless a cohort is named.

    Parameters
    ----------
    cohort
        Values of ``UNET_PIPELINE_IMAGES``, ``_MODEL``, ``_OUTPUT`` and ``_TIMEZONE``. Those that
        are missing are taken from the environment, or are examples.
    """
    defaults = {**NO_COHORT, "UNET_PIPELINE_TIMEZONE": local_time_zone()}
    given = {name: os.environ[name] for name in defaults if name in os.environ} | {**(cohort or {})}
    named = {"UNET_PIPELINE_IMAGES", "UNET_PIPELINE_OUTPUT"} <= given.keys()
    keep = not named and _answers(f"{server.url}/api/deployments/name/{FLOW}/nightly")
    wanted = ["on-demand"] if keep else ["on-demand", "nightly"]
    env = {**defaults, **given, "UNET_PIPELINE_NIGHTLY": str(named).lower()}
    names = [option for name in wanted for option in ("--name", name)]
    file = str(_prefect_yaml())
    server.prefect("--no-prompt", "deploy", *names, "--prefect-file", file, env=env)
    log.info("registered %s from %s", " and ".join(wanted), file)


def run_up(home: Path | None = None, port: int | None = None) -> int:
    """Run server, worker and deployments until Ctrl-C or SIGTERM; return the exit status."""
    from unet_pipeline.console import err, out

    place = home or Path.home() / ".unet-pipeline" / "prefect"
    with ExitStack() as stack:
        stack.enter_context(ends_on_sigterm())
        with err.status("Starting the Prefect server"):
            server = stack.enter_context(prefect_server(place, port))
        with err.status("Registering the deployments"):
            stack.enter_context(worker(server))
            deploy(server)
        out.print(f"Prefect page      {server.url}")
        out.print(f"Deployments       {server.url}/deployments")
        out.print("Run a cohort      on-demand > Run, and fill in images, model and output")
        out.print("Run every night   nightly > Edit the parameters, then switch its schedule on")
        out.print(f"Logs              {place}")
        out.print("Ctrl-C stops the server and the worker; what they know stays.")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            out.print("Stopping")
    return 0


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that what was started is stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def local_time_zone() -> str:
    """Return the name of this machine's time zone, e.g. ``Europe/Berlin``; UTC if unknown."""
    try:
        target = os.readlink("/etc/localtime")  # noqa: PTH115  the link itself, unresolved
    except OSError:
        return "UTC"
    _, _, name = target.partition("zoneinfo/")
    return {"": "UTC", "Etc/UTC": "UTC"}.get(name, name)


@contextmanager
def _running(
    arguments: list[str], env: Mapping[str, str], logfile: Path
) -> Iterator[processes.Process]:
    process = processes.start([sys.executable, "-m", "prefect", *arguments], env=env, log=logfile)
    try:
        yield process
    finally:
        processes.stop(process, grace_s=10)


def _wait(ready: Callable[[], bool], process: processes.Process, home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise _failed("a Prefect server that does not start", home)
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


def _prefect_yaml() -> Path:
    """Return ``prefect.yaml``: of the checkout, or of the installed package."""
    package = Path(__file__).parent.parent
    for path in (package / "deploy" / "prefect.yaml", package / "flows" / "prefect.yaml"):
        if path.is_file():
            return path
    raise _failed("an installation without prefect.yaml", package)


def _failed(found: str, home: Path) -> RequestError:
    return RequestError(
        "prefect_failed",
        found=found,
        wanted="a local Prefect server",
        remedy=f"Look into the logs in {home}",
    )
