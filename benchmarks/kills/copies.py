"""Flows and Dask's programs as copies of one process that has imported them (copies_of_flows)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

SCRIPT = Path(__file__).parents[1] / "copies_of_flows.py"


@dataclass(frozen=True)
class Copy:
    """A program that runs; files of its number, of what it said and of its exit status."""

    name: Path

    @property
    def pid(self) -> int | None:
        """Its number, once it has begun."""
        return _number(self.name.with_suffix(".pid"))

    @property
    def status(self) -> int | None:
        """Its exit status, once it has ended; below 0 the signal that killed it."""
        return _number(self.name.with_suffix(".code"))

    @property
    def said(self) -> str:
        """What it printed so far."""
        path = self.name.with_suffix(".said")
        return path.read_text() if path.exists() else ""

    def end(self, *, gently: bool = False) -> None:
        """Kill it, or ask it to end, and wait until it is gone."""
        number = signal.SIGTERM if gently else signal.SIGKILL
        while self.status is None:
            with suppress(ProcessLookupError):
                if self.pid:
                    os.kill(self.pid, number)
            time.sleep(0.05)


@dataclass
class Copies:
    """Starts copies; what is left of them ends with it."""

    process: "subprocess.Popen[str]"
    folder: Path
    made: list[Copy] = field(default_factory=list)

    def run(self, *words: str, env: Mapping[str, str]) -> Copy:
        """Start ``python WORDS`` in an environment."""
        copy = Copy(self.folder / uuid4().hex)
        files = {kind: str(copy.name.with_suffix(f".{kind}")) for kind in ("said", "code", "pid")}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"words": words, "env": dict(env), **files}) + "\n")
        self.process.stdin.flush()
        self.made.append(copy)
        return copy

    def close(self) -> None:
        """End all that were made."""
        for copy in self.made:
            copy.end()


@contextmanager
def source(env: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run the process whose copies they are, with what is read at its imports."""
    program = [sys.executable, SCRIPT]
    env = {**env, "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(program, env=env, stdin=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.communicate()


def _number(path: Path) -> int | None:
    text = path.read_text() if path.exists() else ""
    return int(text) if text else None
