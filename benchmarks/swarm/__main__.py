"""Whether driver and scheduler keep up with a thousand workers.

    python -m benchmarks.swarm [--workers 10 100 1000] [--small 9800 --large 200] [--results FILE]

The driver and the scheduler are the real ones, a process each, over TCP; the workers are real ones
of Dask that wait where others compute (``workers.py``). The cohort is headers without voxels: of
``--small`` volumes of one tile and ``--large`` of a hundred, in each run so many of both that it
takes about ``--minutes`` of a cluster that never waits, and no more than asked for. Prints a line
of JSON for each size.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

from benchmarks.swarm.cohort import write_cohort

TILES = 100
FIRST_SECONDS = 10  # in which the first cases are begun
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run each size, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--small", type=int, default=9800)
    parser.add_argument("--large", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--case-seconds", type=float, default=5.0)
    parser.add_argument("--tile-seconds", type=float, default=2.0)
    parser.add_argument("--beside-seconds", type=float, default=1.0, help="to read, and to write")
    parser.add_argument("--processes", type=int, default=4, help="in which the workers are")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--profiles", type=Path, help="folder for profiles of both loops")
    options = parser.parse_args()
    for workers in options.workers:
        with tempfile.TemporaryDirectory() as name:
            told = json.dumps(measure(Path(name), workers, options))
        print(told, flush=True)
        if options.results:
            with options.results.open("a") as file:
                file.write(f"{told}\n")


def measure(folder: Path, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one size, and return what it took."""
    device = options.small * options.case_seconds
    device += options.large * TILES * options.tile_seconds
    share = min(1.0, 60 * options.minutes * workers / device)
    small, large = round(share * options.small), max(round(share * options.large), 1)
    write_cohort(folder / "images", small, large)
    profiles = _profiles(options.profiles, workers)
    with ExitStack() as stack:
        scheduler = _start(stack, "scheduler", *profiles[:1])
        address = _said(scheduler)
        template = folder / "record"
        driver = _start(
            stack, "driver", address, str(folder / "images"), str(folder / "out"), str(template),
            *profiles[1:],
        )  # fmt: skip
        while not template.exists():
            sleep(0.1)
            assert driver.poll() is None
        each = _shares(workers, options.processes)
        seconds = [options.case_seconds, options.tile_seconds, *[options.beside_seconds] * 2]
        swarms = [
            _start(stack, "workers", address, str(n), str(template), name, *map(str, seconds))
            for number, n in enumerate(each)
            for name in [str(folder / f"workers-{number}")]
        ]
        for swarm in swarms:
            assert _said(swarm) == "ready"
        before = _ticks(scheduler), sum(map(_ticks, swarms))
        driver.stdin.write("go\n")
        driver.stdin.flush()
        driven = json.loads(_said(driver))
        after = _ticks(scheduler), sum(map(_ticks, swarms))
        busy = [_devices(swarm) for swarm in swarms]
        megabytes = _megabytes(scheduler)
    scheduler_seconds, swarm_seconds = (b - a for a, b in zip(before, after, strict=True))
    return summary_of(
        workers, small, large, options, driven, busy, scheduler_seconds, swarm_seconds, megabytes
    )


def summary_of(
    workers: int, small: int, large: int, options: Any, driven: dict[str, Any], busy: Any,
    scheduler_seconds: float, swarm_seconds: float, megabytes: float,
) -> dict[str, Any]:  # fmt: skip
    """Return the line of one size."""
    cases, calls = small + large, driven["submitted"]
    tasks = max(calls, 1)
    device, wall = sum(sum(one["busy"].values()) for one in busy), driven["seconds"]
    moved = driven["sent_bytes"] + driven["received_bytes"]
    messages = driven["sent_messages"] + driven["received_messages"]
    return {
        "workers": workers, "small": small, "large": large, "tiles": TILES,
        "case_seconds": options.case_seconds, "tile_seconds": options.tile_seconds,
        "seconds": round(wall, 1), "device_seconds": round(device, 1),
        "busy_share": round(device / (wall * workers), 4),
        "busy_share_between": round(_between(busy, driven["began"], driven["nearly"]) / workers, 4),
        "used_workers": sum(one["used"] for one in busy),
        "codes": driven["codes"], "open_seconds": round(driven["open_seconds"], 2),
        "tasks": calls, "tasks_per_second": round(calls / wall, 1),
        "scheduler_cpu_share": round(scheduler_seconds / wall, 3),
        "scheduler_ms_per_task": round(1000 * scheduler_seconds / tasks, 3),
        "scheduler_ms_per_case": round(1000 * scheduler_seconds / cases, 2),
        "driver_cpu_share": round(driven["driver_cpu_seconds"] / wall, 3),
        "driver_ms_per_task": round(1000 * driven["driver_cpu_seconds"] / tasks, 3),
        "driver_ms_per_case": round(1000 * driven["driver_cpu_seconds"] / cases, 2),
        "driver_loop_cpu_share": round(driven["driver_loop_cpu_seconds"] / wall, 3),
        "scheduler_megabytes": round(megabytes),
        "driver_megabytes": round(driven["driver_megabytes"]),
        "driver_megabytes_before": round(driven["driver_megabytes_before"]),
        "messages_per_second": round(messages / wall, 1),
        "bytes_per_task": round(moved / tasks), "bytes_sent": driven["sent_bytes"],
        "bytes_received": driven["received_bytes"],
        "workers_cpu_share": round(swarm_seconds / wall, 3),
    }  # fmt: skip


def _profiles(folder: Path | None, workers: int) -> list[str]:
    if folder is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    return [str(folder / f"{name}-{workers}") for name in ("scheduler", "driver")]


def _shares(workers: int, processes: int) -> list[int]:
    processes = min(processes, max(workers // 50, 1))
    return [workers // processes + (n < workers % processes) for n in range(processes)]


def _start(stack: ExitStack, module: str, *words: str) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.swarm.{module}", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "DASK_LOGGING__DISTRIBUTED": "error"},
    )  # fmt: skip
    stack.callback(_end, process)
    return process


def _end(process: Any) -> None:
    process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _said(process: Any) -> str:
    line: str = process.stdout.readline()
    assert line, f"{process.args[2]} ended"
    return line.strip()


def _devices(swarm: Any) -> dict[str, Any]:
    swarm.stdin.write("tell\n")
    swarm.stdin.flush()
    found: dict[str, Any] = json.loads(_said(swarm))
    return found


def _between(busy: Any, began: float, nearly: float) -> float:
    """Return how many devices work on average between the first cases and the last tenth."""
    first, last = int(began) + FIRST_SECONDS, int(nearly)
    held = sum(one["busy"].get(str(second), 0) for one in busy for second in range(first, last))
    return float(held) / max(last - first, 1)


def _ticks(process: Any) -> float:
    """Return the processor seconds that a process has taken."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / TICKS


def _megabytes(process: Any) -> float:
    """Return the most memory that a process had."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
