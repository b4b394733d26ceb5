"""How large Prefect's database is after so many nights, and what `tidy` leaves of it.

    python -m benchmarks.prefect_database [--nights 30] [--cases 28]

Each night is a run of the flow `segment` over tiny volumes, all new to it, on a real server with
SQLite. Then all runs but the newest go, as `tidy --flow-runs` removes them. A file of SQLite keeps
its size: what is free in it is used again, so both are said, and its size after VACUUM.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, sleep

from unet_pipeline.local.old_flow_runs import ended_runs, remove_run
from unet_pipeline.local.prefect_server import PrefectServer, prefect_server
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

TABLES = ("flow_run", "task_run", "task_run_state", "artifact", "log", "events")
TINY = ((48, 42, 32), (1.5, 1.5, 2.0), "RAS")


def main() -> None:
    """Run the nights, tidy, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--cases", type=int, default=28)
    asked = parser.parse_args()
    print(f"| nights | s | MB | MB in use | {' | '.join(TABLES)} |")
    print(f"|{' --- |' * (4 + len(TABLES))}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_images(root / "images", asked.cases)
        with prefect_server(root / "home", port=0) as server:
            show(server, "0", 0)
            begin = perf_counter()
            for night in range(1, asked.nights + 1):
                run_night(server, root, night)
                if night in (1, asked.nights // 2, asked.nights):
                    sleep(15)  # states of tasks travel as events
                    show(server, str(night), perf_counter() - begin)
            begin = perf_counter()
            for run in ended_runs(server, before=datetime.now(UTC), keep=1):
                remove_run(server, run)
            sleep(15)  # logs go behind the answer
            show(server, "tidied", perf_counter() - begin - 15)
        with closing(sqlite3.connect(root / "home/prefect.db")) as base:
            base.execute("VACUUM")
        print(f"VACUUM: {(root / 'home/prefect.db').stat().st_size / 1e6:.1f} MB")


def write_images(folder: Path, cases: int) -> None:
    """Write tiny phantoms."""
    for index in range(cases):
        phantom = make_phantom(index, *TINY)
        values_XYZ = phantom.image_XYZ
        header = header_of(values_XYZ.shape, phantom.affine, values_XYZ.dtype)
        place = join(str(folder), f"phantom-{index:03d}.nii.gz")
        Store().write(place, encode_labels(values_XYZ, header))


def run_night(server: PrefectServer, root: Path, night: int) -> None:
    """Segment all images into an output of their own."""
    settings = {"images": str(root / "images"), "model": "phantom",
                "output": str(root / f"out-{night}"),
                "cluster": {"kind": "serial", "threads": 1}}  # fmt: skip
    request = root / "settings.json"
    request.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "unet_pipeline_flows.segment", request]
    subprocess.run(command, env=dict(server.env), check=True, capture_output=True)


def show(server: PrefectServer, title: str, seconds: float) -> None:
    """Print a line of the table."""
    numbers = " | ".join(f"{number:,}" for number in counts(server.home / "prefect.db"))
    size, used = sizes(server.home / "prefect.db")
    print(f"| {title} | {seconds:.0f} | {size:.1f} | {used:.1f} | {numbers} |", flush=True)


def counts(file: Path) -> Iterator[int]:
    """Yield the number of rows of each table."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as base:
        for table in TABLES:
            yield base.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def sizes(file: Path) -> tuple[float, float]:
    """Return the size of a database and what of it is in use, in MB."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as base:
        size, pages, free = (
            base.execute(f"PRAGMA {what}").fetchone()[0]
            for what in ("page_size", "page_count", "freelist_count")
        )
    return size * pages / 1e6, size * (pages - free) / 1e6


if __name__ == "__main__":
    main()
