"""A real PostgreSQL on loopback, as its image would make one from the service's variables."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_pipeline.local import processes

BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serve_postgresql(
    port: int, password: str, log: Path, user: str = "prefect", database: str = "prefect"
) -> Iterator[str]:
    """Run PostgreSQL with an empty database, and yield its URL as Prefect takes it."""
    assert BIN is not None
    # the folders of pytest and of these tests are for their user only
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    lower: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        shutil.chown(folder, "postgres", "postgres")
        lower = ["/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    secret, data = folder / "secret", folder / "data"
    secret.write_text(password)
    secret.chmod(0o644)
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "LC_ALL": "C", "PGHOST": "127.0.0.1",
           "PGPORT": str(port), "PGPASSWORD": password}  # fmt: skip
    making = [*lower, BIN / "initdb", "-D", data, "-U", user, "-A", "scram-sha-256"]
    subprocess.run(
        [*making, "--pwfile", secret], env=env, check=True, capture_output=True, cwd=folder
    )
    serving = [*lower, BIN / "postgres", "-D", data, "-k", folder, "-h", "127.0.0.1"]
    first, *rest = map(str, serving)
    process = processes.start([first, *rest], env=env, log=log)
    try:
        _wait([BIN / "pg_isready"], env)
        subprocess.run([BIN / "createdb", "-U", user, database], env=env, check=True)
        yield f"postgresql+asyncpg://{user}:{password}@127.0.0.1:{port}/{database}"
    finally:
        os.kill(process.pid, signal.SIGINT)  # PostgreSQL's fast shutdown
        process.wait(20)
        shutil.rmtree(folder)


def _wait(asking: list[Path], env: dict[str, str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(asking, env=env, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
