"""Several runs over one output at once: each case is computed by one of them (docs/reliability.md).

    python -m benchmarks.runs_at_once [--runs 2 5] [--cases 200]

Each run is the command of a user, in a process of its own. Prints a row of Markdown for each number
of runs: label maps that differ from those of a single run, cases that were computed twice, what
each run did, and seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.kills.cohort import MODEL, label_maps, undisturbed, write_cohort
from benchmarks.kills.site import AS_INSTALLED
from benchmarks.kills.watch import Watch, left_behind

HEADS = (
    "runs",
    "cases",
    "label maps lost",
    "other bytes",
    "done twice",
    "left",
    "done by each",
    "s",
)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[2, 5])
    parser.add_argument("--cases", type=int, default=200)
    asked = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}")
    with tempfile.TemporaryDirectory(prefix="unet-at-once-") as folder:
        root = Path(folder)
        write_cohort(root, asked.cases)
        wanted = undisturbed(root)
        for number in asked.runs:
            print(f"| {' | '.join(map(str, at_once(root, number, wanted)))} |", flush=True)


def at_once(root: Path, number: int, wanted: Mapping[str, bytes]) -> list[object]:
    """Start so many runs in the same moment; return the cells of their row."""
    output, begin = root / f"out-{number}", time.monotonic()
    watch = Watch(output, len(wanted))
    command = [
        sys.executable, "-m", "unet_pipeline", "segment", str(root / "images"), "--json",
        "--model", str(root / MODEL), "--output", str(output), "--cluster", "serial",
        "--threads", "1",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(AS_INSTALLED)}
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(number)
    ]
    said = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        raise RuntimeError(f"a run ended with {[run.returncode for run in runs]}")
    watch.close()
    maps = label_maps(output)
    different = sum(maps[name] != wanted.get(name) for name in maps)
    lost, left = len(wanted.keys() - maps.keys()), len(left_behind(output, []))
    seconds = round(time.monotonic() - begin)
    shares = ", ".join(str(_done(one)) for one in said)
    return [number, len(wanted), lost, different, len(watch.twice), left, shares, seconds]


def _done(said: str) -> int:
    """Return how many cases a run has segmented, by its lines."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return sum(line.get("status") == "done" for line in lines)


if __name__ == "__main__":
    main()
