"""What a run does whose Prefect server is away for some minutes (docs/reliability.md).

    python -m benchmarks.outage --seconds 600 --at middle|end [--cases 60]

The server is killed after the first cases, and started again after so many seconds. The run is held
back (SIGSTOP, SIGCONT) so that it lasts for a minute longer; with ``end`` it is not, so that it
ends while the server is away. Prints what became of it as JSON.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.kills.cohort import label_maps
from benchmarks.kills.scenes import Deployed
from benchmarks.kills.site import Site, open_site, wait_until
from benchmarks.kills.victims import Place

OUTPUT, FIRST = "out", 3  # cases before the server is killed
WORK_SECONDS, LONGER_SECONDS, SETTLE_SECONDS = 0.3, 60.0, 60.0


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--at", choices=["middle", "end"], default="middle")
    parser.add_argument("--cases", type=int, default=60)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="unet-outage-") as folder,
        open_site(Path(folder), asked.cases) as site,
    ):
        print(json.dumps(measure(site, asked.seconds, in_the_middle=asked.at == "middle")))


def measure(site: Site, seconds: float, *, in_the_middle: bool) -> dict[str, Any]:
    """Let the server be away for so many seconds; return what became of a run."""
    runs = Deployed(site, Place(str(site.root)))
    runs.begin(OUTPUT)
    output = site.root / OUTPUT
    wait_until(lambda: len(label_maps(output)) >= FIRST, tick=site.tick)
    pid, begin = runs.pid, time.monotonic()
    assert pid is not None

    def go_on() -> None:
        share = (time.monotonic() - begin) / (seconds + LONGER_SECONDS)
        wanted = share * len(site.wanted) if in_the_middle else len(site.wanted)
        _work(pid, hold=len(label_maps(output)) > wanted)

    os.kill(site.server.process.pid, signal.SIGKILL)
    while time.monotonic() < begin + seconds:  # and nobody starts it again
        go_on()
    done, back = len(label_maps(output)), time.monotonic()
    while (state := runs.end()) is None:
        site.tick()
        go_on()
    ended = time.monotonic()
    with suppress(TimeoutError):
        wait_until(lambda: set(tasks(site, runs.run)) == {"Completed"}, SETTLE_SECONDS)
    return {
        "away_s": seconds, "done_while_away": done - FIRST, "state": state,
        "s_from_server_to_end": round(ended - back, 1),
        "lost": len(site.wanted.keys() - label_maps(output).keys()),
        "different": sum(site.wanted[name] != data for name, data in label_maps(output).items()),
        "tasks": tasks(site, runs.run), "bar": bar(site, runs.run),
    }  # fmt: skip


def _work(pid: int, *, hold: bool) -> None:
    """Let a process work for a moment, or hold it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP if hold else signal.SIGCONT)
    time.sleep(WORK_SECONDS)


def tasks(site: Site, run: str) -> dict[str, int]:
    """Return the names of the states of a run's tasks, with how many."""
    found = site.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}) or []
    names = [one["state_name"] for one in found]
    return {name: names.count(name) for name in sorted(set(names))}


def bar(site: Site, run: str) -> float | None:
    """Return what a run's bar shows."""
    found = site.ask("/artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}}) or []
    shown = [float(one["data"]) for one in found if one["type"] == "progress"]
    return shown[0] if shown else None


if __name__ == "__main__":
    main()
