"""Run a contender in a process of its own; sample the memory of its process tree."""

import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep, thread_time
from typing import Any

import psutil

PERIOD_SECONDS = 0.05
RESERVE_BYTES = 2 * 2**30  # a contender that leaves less for all others is stopped
_REST = 19  # looking at memory takes at most a twentieth of a core
_GROWTH = 1.02  # of the resident memory, without which no new peak is looked for


@dataclass(frozen=True)
class Measurement:
    """What one process took.

    Attributes
    ----------
    found
        What it printed of itself; empty if it failed.
    wall_seconds
        From its start to its end, imports and all, without the ``extra_seconds`` that it says it
        spent on measuring itself.
    peak_bytes
        Largest sum, over the process and its children, of the memory that each has alone and its
        share of what is shared (PSS).
    failure
        Why it has nothing to say, or empty.
    """

    found: dict[str, Any]
    wall_seconds: float
    peak_bytes: int
    failure: str = ""


def run_measured(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path, limit_seconds: float
) -> Measurement:
    """Run a command that prints one JSON line at its end.

    Parameters
    ----------
    environment
        Variables beside those of this process.
    log
        File for what it says beside that line.
    limit_seconds
        After which it is stopped.
    """
    begin = perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
        )
        watch = _Watch(process.pid, begin + limit_seconds)
        watch.start()
        said, _ = process.communicate()
        wall_seconds = perf_counter() - begin
        watch.stop()
    found = _last_json(said)
    failure = watch.reason or ("" if process.returncode == 0 and found else _last_line(log))
    wall_seconds -= found.get("extra_seconds", 0.0)
    return Measurement({} if failure else found, wall_seconds, watch.peak_bytes, failure)


class _Watch(threading.Thread):
    """Samples the memory of a process tree, and ends it if it takes all."""

    def __init__(self, pid: int, deadline: float) -> None:
        super().__init__(daemon=True)
        self.peak_bytes, self.reason = 0, ""
        self._resident_bytes = 0  # when the proportional shares were last added
        self._root, self._deadline, self._over = psutil.Process(pid), deadline, threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        while not self._over.is_set():
            begin = thread_time()  # and not what this thread waits for a processor
            tree = _tree(self._root)
            resident_bytes = sum(map(_rss, tree))
            if resident_bytes > _GROWTH * self._resident_bytes:
                # walks every page, and whoever asks for memory meanwhile must wait
                self._resident_bytes = resident_bytes
                self.peak_bytes = max(self.peak_bytes, sum(map(_pss, tree)))
            self._end_if_greedy(tree)
            spent = thread_time() - begin
            sleep(max(PERIOD_SECONDS - spent, _REST * spent))

    def stop(self) -> None:
        """Stop, and wait for the last sample."""
        self._over.set()
        self.join()

    def _end_if_greedy(self, tree: Sequence[psutil.Process]) -> None:
        if perf_counter() > self._deadline:
            self.reason = "time limit"
        elif psutil.virtual_memory().available < RESERVE_BYTES:
            self.reason = f"out of memory at {self.peak_bytes / 1e9:.1f} GB"
        if self.reason:
            for process in reversed(tree):
                with suppress(psutil.Error):
                    process.kill()
            self._over.set()


def _tree(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [root, *root.children(recursive=True)]
    return []


def _rss(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _pss(process: psutil.Process) -> int:
    """Return the proportional share of memory; where the system does not tell it, all of it."""
    with suppress(psutil.Error):
        found = process.memory_full_info()
        return int(getattr(found, "pss", found.rss))
    return 0


def _last_json(said: str) -> dict[str, Any]:
    for line in reversed(said.splitlines()):
        with suppress(TypeError, ValueError):
            return dict(json.loads(line))
    return {}


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "nothing printed"
