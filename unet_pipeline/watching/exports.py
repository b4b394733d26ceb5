"""Numbers at a port and in a file. Neither is worth a run: what cannot be had is logged."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from unet_pipeline.private import make_output_folder
from unet_pipeline.watching.samples import Metrics

log = logging.getLogger(__name__)

SECONDS = 1.0  # between two looks whether a file is to be written anew
MOST_AT_ONCE = 16  # runs of one name on one machine
_READABLE = 0o644  # by node_exporter, which is another user; no case is named in it


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """Return a registry that has these metrics alone, nothing of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry


@contextmanager
def at_port(address: tuple[str, int], registry: CollectorRegistry) -> Iterator[None]:
    """Answer at a port until the block ends; where the port cannot be had, only say so."""
    host, port = address
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        log.warning("metrics are not served at %s:%d: %s", host, port, error.strerror or error)
        yield
        return
    log.info("metrics: http://%s:%d/metrics", host, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def own_file(file: Path) -> Iterator[Path | None]:
    """Find the file that this run alone writes: a second one beside it has ``<name>-2.prom``.

    Two files with the same series would make node_exporter refuse all of them, so the name of a
    file is a label of what is in it. None where none can be had.
    """
    names = [file.stem, *(f"{file.stem}-{number}" for number in range(2, MOST_AT_ONCE + 1))]
    found, lock = None, None
    try:
        make_output_folder(file.parent)
        for one in map(file.with_stem, names):
            if (lock := _lock_of(one)) is not None:
                found = one
                break
        else:
            log.warning("metrics are not written: %d other runs write %s", MOST_AT_ONCE, file)
    except OSError as error:
        log.warning("metrics are not written to %s: %s", file, error.strerror or error)
    try:
        yield found
    finally:
        if lock is not None:
            os.close(lock)


def _lock_of(file: Path) -> int | None:
    """Lock a file, by one beside it that is never replaced; None if another run has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(file.with_name(f".{file.stem}.lock"), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def in_file(file: Path, metrics: Metrics) -> Iterator[None]:
    """Keep a file up to date until the block ends, then leave it with the last values."""
    registry, over = registry_of(metrics), Event()
    written: list[object] = [None]

    def write() -> None:
        if (now := metrics.progress()) is not written[0]:
            written[0] = now
            _replace(file, generate_latest(registry))

    def keep() -> None:
        while not over.wait(SECONDS):
            write()

    write()
    thread = Thread(target=keep, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        write()


def _replace(file: Path, data: bytes) -> None:
    """Put a file in the place of what is there, whole or not at all."""
    new = file.with_name(f".{file.stem}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            os.fchmod(opened.fileno(), _READABLE)
        new.replace(file)
    except OSError as error:
        log.warning("metrics are not written to %s: %s", file, error.strerror or error)
