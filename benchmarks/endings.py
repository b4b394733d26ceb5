"""How runs end before they are done: seconds, scratch left, report (docs/reliability.md).

    python -m benchmarks.endings [CLUSTER ...]      # serial local tcp; slurm with SITE=site.yaml

A run has one small case, and several that take minutes and lie in scratch. Once the first is done
and another is under way, the process group of the run gets a signal, as a terminal sends it, or a
process of the cluster is killed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

CLUSTERS = ("serial", "local", "tcp")
LARGE, SMALL, LONG_CASES = (160, 160, 160), (32, 32, 32), 4
START_SECONDS, LIMIT_SECONDS = 180.0, 60.0
SECOND_AFTER = 0.5  # seconds from the first signal to the second
SETTLE_SECONDS = 5.0
PATIENCE_SECONDS = 3.0  # in which a lost worker may come again
STOPPED = 3  # exit status


@dataclass(frozen=True)
class End:
    """What ends a run: signals, one after the other, or the end of a process of others."""

    signals: Sequence[int] = ()
    killed: str = ""

    @property
    def status(self) -> int:
        """The exit status that says so."""
        return 128 + self.signals[0] if self.signals else STOPPED


SIGNALS = {
    "Ctrl-C": End((signal.SIGINT,)),
    "SIGTERM": End((signal.SIGTERM,)),
    "SIGHUP": End((signal.SIGHUP,)),
    "Ctrl-C twice": End((signal.SIGINT, signal.SIGINT)),
}
LOSSES = {"worker killed": End(killed="worker"), "scheduler killed": End(killed="scheduler")}


@dataclass(frozen=True)
class Place:
    """Where a run works: the options that say so, and the processes of others there."""

    options: Sequence[str]
    processes: Mapping[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How a run ended: ``scratch`` names what it left, ``report`` is its run.json."""

    seconds: float
    status: int
    scratch: Sequence[str]
    report: dict[str, Any] | None
    said: str


def write_cohort(folder: Path) -> None:
    """Write one case of one window, and some of many windows that take minutes."""
    rng, store = np.random.default_rng(0), Store()
    for index in range(1 + LONG_CASES):
        shape = SMALL if index == 0 else LARGE
        image_XYZ = rng.integers(0, 2000, shape, dtype=np.int16)
        data = encode_labels(image_XYZ, header_of(shape, np.eye(4), np.int16))
        store.write(str(folder / "images" / f"case{index}.nii.gz"), data)


def measure(place: Place, end: End, folder: Path) -> Ending:
    """Start a run in a folder with ``images``, and end it when it is at work."""
    temporary, output = folder / "tmp", folder / "out"
    temporary.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "unet_pipeline", "segment", str(folder / "images"), "--json",
        "--model", "phantom", "--output", str(output), "--overlap", "0.75", *place.options,
        "--memory-gb", "0.005", "--scratch", str(temporary), "--max-windows", "1000000",
    ]  # fmt: skip
    before = set(output.glob("runs/*/run.json"))
    with (folder / "said").open("w+") as said:
        run = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "TMPDIR": str(temporary)},
            start_new_session=True, cwd=folder,
        )  # fmt: skip
        try:
            _wait_until_at_work(run, folder)
            begin = time.monotonic()
            if end.killed:
                place.processes[end.killed].kill()
            for turn, number in enumerate(end.signals):
                time.sleep(SECOND_AFTER if turn else 0)
                os.killpg(run.pid, number)
            status = run.wait(LIMIT_SECONDS)
            seconds = time.monotonic() - begin
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    left = _left(temporary)
    reports = [json.loads(p.read_text()) for p in set(output.glob("runs/*/run.json")) - before]
    return Ending(seconds, status, left, next(iter(reports), None), (folder / "said").read_text())


def _left(temporary: Path) -> list[str]:
    """Return the scratch that is there for longer than workers of others need to remove it."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := [p.name for p in temporary.glob("unet-pipeline-*")]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    return left


def _wait_until_at_work(run: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait until the small case is done, and a large one lies in scratch."""
    deadline = time.monotonic() + START_SECONDS
    said, temporary = folder / "said", folder / "tmp"
    while not ('"done"' in said.read_text() and any(temporary.glob("unet-pipeline-*/*.zarr/c"))):
        if run.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the run did not come to its cases:\n{said.read_text()}")
        time.sleep(0.05)
    time.sleep(1)  # into the network


@contextmanager
def place_of(kind: str, folder: Path) -> Iterator[Place]:
    """Yield where a run works; a scheduler and a worker of others run for ``tcp``."""
    if kind == "slurm":
        yield Place(["--cluster", "slurm", "--site", os.environ["SITE"], "--workers", "1"])
    elif kind == "tcp":
        with scheduler_of_others(folder) as (address, processes):
            minutes = str(PATIENCE_SECONDS / 60)
            yield Place(["--cluster", address, "--wait-minutes", minutes], processes)
    else:
        yield Place(["--cluster", kind, *(["--workers", "2"] if kind == "local" else [])])


@contextmanager
def scheduler_of_others(
    folder: Path, others: Sequence[str] = ()
) -> Iterator[tuple[str, Mapping[str, "subprocess.Popen[bytes]"]]]:
    """Run a scheduler and a worker that no nanny starts again; yield address and processes.

    Parameters
    ----------
    others
        Names of further workers. Each has a folder for temporary files of its own, as on a host of
        its own.
    """
    file, dask = folder / "scheduler.json", [sys.executable, "-m", "dask"]
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    worker = ["worker", "--scheduler-file", str(file), "--nthreads", "2", "--no-nanny"]
    programs = {"scheduler": scheduler, "worker": worker, **dict.fromkeys(others, worker)}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, words in programs.items():
            temporary = folder / ("tmp" if name in {"scheduler", "worker"} else name)
            temporary.mkdir(exist_ok=True)
            with (folder / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    [*dask, *words, "--no-dashboard"], stdout=log, stderr=log, cwd=temporary,
                    start_new_session=True, env={**os.environ, "TMPDIR": str(temporary)},
                )  # fmt: skip
            _wait_until(file.exists)
        for name in {*programs} - {"scheduler"}:
            _wait_until(lambda log=folder / f"{name}.log": "Registered to" in log.read_text())
        yield json.loads(file.read_text())["address"], running
    finally:
        for process in reversed(running.values()):  # a worker first: it waits for its scheduler
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def row(kind: str, name: str, ending: Ending) -> str:
    """Return a row of the table."""
    report = ending.report
    written = f"yes, {report['stopped'].partition('.')[0]}" if report else "no"
    scratch = len(ending.scratch) or "none"
    return f"| {kind} | {name} | {ending.seconds:.1f} | {ending.status} | {scratch} | {written} |"


def main(kinds: Sequence[str]) -> None:
    """Measure all endings, and print the table."""
    print("| cluster | ended by | seconds | exit status | scratch left | report |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in kinds or CLUSTERS:
        for name, end in {**SIGNALS, **(LOSSES if kind == "tcp" else {})}.items():
            with tempfile.TemporaryDirectory(prefix="unet-endings-") as place:
                folder = Path(place)
                write_cohort(folder)
                with place_of(kind, folder) as place:
                    print(row(kind, name, measure(place, end, folder)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
