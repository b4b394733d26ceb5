"""A real Prefect server on loopback, and its worker: ``prefect`` as programs of their own.

Prefect is only started here; it is imported in ``flows/`` alone.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket

from unet_pipeline.errors import RequestError
from unet_pipeline.local import processes
from unet_pipeline.local.password import AUTH, SERVER_AUTH, password_of, write_profile
from unet_pipeline.local.prefect_api import PrefectApi, prefect_failed
from unet_pipeline.private import own_folder

DEFAULT_PORT = 4200
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_DATABASES = (DATABASE, "PREFECT_API_DATABASE_CONNECTION_URL")  # the latter is what it was called
START_SECONDS = 120.0
LEASES = {  # on disk: what a run holds of a limit outlives a server that is started again
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    )
}
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "unet_pipeline",
}


@dataclass(frozen=True, kw_only=True)
class PrefectServer(PrefectApi):
    """A running server that we started.

    Attributes
    ----------
    env
        Environment in which the ``prefect`` program, flows and workers use this server.
    process
        The server itself, which may be started again.
    """

    env: Mapping[str, str] = field(repr=False)
    process: processes.Lasting

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


@contextmanager
def prefect_server(
    home: Path, port: int | None = None, database: str | None = None
) -> Iterator[PrefectServer]:
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
    database
        Its database, as SQLAlchemy takes it: ``postgresql+asyncpg://user:password@host/name``. Only
        the server is told, neither workers nor runs. Default: a file of SQLite in ``home``.

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
        command = [sys.executable, "-m", "unet_pipeline_flows.server", "--port", str(port)]
        guarded = {**env, **LEASES, SERVER_AUTH: password.text}
        guarded |= {DATABASE: database} if database else {}
        process = processes.Lasting(command, env=guarded, log=home / "server.log")
        try:
            server = PrefectServer(url=url, home=home, password=password, env=env, process=process)
            _wait(server.is_ready, process, home)
            yield server
        finally:
            process.stop()


def database_of_environment() -> str | None:
    """Return the database that Prefect's own variables name; None if they name none."""
    return next((os.environ[name] for name in _DATABASES if os.environ.get(name)), None)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder of a server, which is for one at a time."""
    with (home / "lock").open("w") as lock:  # which `up_state` looks at
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


def _wait(ready: Callable[[], bool], process: processes.Lasting, home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise prefect_failed("a Prefect server that does not start", home)
        time.sleep(0.2)


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
