"""What a night costs over an archive that is done but for a few cases.

    python -m benchmarks.nights [--finished 1000 10000] [--store folder|s3] [--without-index]

The archive is one real case, segmented and then copied under other names: image, label map, record,
its line of the index, its lines of the table of statistics. The first night has 20 new cases, 5
that changed and 3 that fail, the next none. Each night is a process of its own. With ``s3`` the
files lie behind rclone's S3 server, whose share of the time is not taken off. Requests are counted
where they are made. Prints a table in Markdown.
"""

import argparse
import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

NEW, CHANGED, FAILING = 20, 5, 3
FIRST, INDEX = "case-000000", "out/runs/finished.jsonl.gz"
COUNTS = ("done", "skipped", "quarantined")
KEYS = ("first", "seconds", "megabytes", "pages", "requests", *COUNTS)


def main() -> None:
    """Make each archive, run nights over it, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--finished", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--store", choices=["folder", "s3"], default="folder")
    parser.add_argument("--without-index", action="store_true", help="one more night, before")
    parser.add_argument("--child", nargs=1)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(one_night(*options.child)))
        return
    heads = ["finished", "night", "s to the first window", "s in all", "MB", "pages", "requests"]
    print(f"| {' | '.join([*heads, *COUNTS])} |\n|{' --- |' * (len(heads) + len(COUNTS))}")
    for finished in options.finished:
        measure(finished, options.store, without_index=options.without_index)


def measure(finished: int, kind: str, *, without_index: bool) -> None:
    """Run the nights over one archive."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        root, environment = Path(name, "archive"), dict(os.environ)
        (root / "images").mkdir(parents=True)
        place = str(root)
        if kind == "s3":
            from unet_pipeline.local.s3_server import serve_s3

            keys = {"key": "benchmark", "secret": "benchmark-secret"}
            server = stack.enter_context(serve_s3(Path(name), **keys))
            environment |= server.environment()
            place = f"s3://{root.name}"

        def night(title: str) -> None:
            words = [sys.executable, "-m", "benchmarks.nights", "--child", place]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            cells = [f"{finished:,}", title, *(f"{found[key]:,.0f}" for key in KEYS)]
            if title:
                print(f"| {' | '.join(cells)} |", flush=True)

        write_one_case(root)
        night("")
        sleep(3)  # what changed just now is looked at again
        night("")
        copy_it(root, finished, kind)
        if without_index:
            index = (root / INDEX).read_bytes()
            (root / INDEX).unlink()
            night("no index")
            (root / INDEX).write_bytes(index)
        change(root)
        night(f"{NEW} new, {CHANGED} changed, {FAILING} fail")
        night("nothing new")


def one_night(place: str) -> dict[str, Any]:
    """Run a night, and return what it cost."""
    begin = perf_counter()
    from unet_pipeline import case_runs
    from unet_pipeline.cluster.executor import SerialExecutor
    from unet_pipeline.config import ClusterSettings, SegmentSettings
    from unet_pipeline.jobs.segment import close_models, faults_of, open_segment, run_segment

    first, outcomes = 0.0, case_runs._outcomes

    def timed(entered: Any, executor: Any) -> Any:
        nonlocal first
        if entered and not first:
            first = perf_counter() - begin
        return outcomes(entered, executor)

    case_runs._outcomes = timed
    asked = counted_requests()
    run = open_segment(
        SegmentSettings(
            images=f"{place}/images",
            model="phantom",
            output=f"{place}/out",
            cluster=ClusterSettings(kind="serial", threads=1),
        )
    )
    opened = perf_counter() - begin
    print(run.expected, f"{opened:.1f} s", file=sys.stderr)
    records = [*faults_of(run), *run_segment(run, SerialExecutor())]
    ran = perf_counter() - begin
    (summary,) = close_models(run, records, seconds=1.0, workers=1)
    print(f"ran {ran:.1f} s", file=sys.stderr)
    return {
        "first": first or opened,
        "seconds": perf_counter() - begin,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "pages": asked.pop("list_objects_v2", 0),
        "requests": asked.total(),
        **summary.counts,
    }


def counted_requests() -> Counter[str]:
    """Count what is asked of S3 from now on, by name."""
    from s3fs import S3FileSystem

    asked, call = Counter[str](), S3FileSystem._call_s3

    async def counted(self: Any, method: str, *words: Any, **named: Any) -> Any:
        asked[method] += 1
        return await call(self, method, *words, **named)

    S3FileSystem._call_s3 = counted
    return asked


def write_one_case(root: Path) -> None:
    """Write a tiny image."""
    import nibabel as nib

    values = np.random.default_rng(0).integers(0, 300, (16, 16, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), root / "images" / f"{FIRST}.nii.gz")


def copy_it(root: Path, count: int, kind: str) -> None:
    """Copy a finished case: its files, its line of the index, its lines of the last table."""
    ends = {"label_map": "_dseg.nii.gz", "picture": "_dseg.png", "record": "_dseg.json"}
    made = {key: (root / "out" / f"{FIRST}{end}").read_bytes() for key, end in ends.items()}
    scan = (root / "images" / f"{FIRST}.nii.gz").read_bytes()
    with gzip.open(root / INDEX, "rt") as file:
        head, line = file.read().splitlines()
    table = max((root / "out" / "runs").glob("*/statistics.csv"))
    top, *rows = table.read_text().splitlines()
    lines, texts = [line], rows[:]
    for number in range(1, count):
        name = f"case-{number:06d}"
        image = root / "images" / f"{name}.nii.gz"
        files = {key: root / "out" / f"{name}{end}" for key, end in ends.items()}
        image.write_bytes(scan)
        for key, data in made.items():
            files[key].write_bytes(data.replace(FIRST.encode(), name.encode()))
        said = json.loads(line.replace(FIRST, name))
        said["inputs"] = {"image0": mark(image, kind)}
        said |= {key: mark(files[key], kind) for key in ("label_map", "record")}
        lines.append(json.dumps(said))
        texts += [row.replace(FIRST, name) for row in rows]
    with gzip.open(root / INDEX, "wt") as file:
        file.write("\n".join([head, *lines, ""]))
    table.write_text("\r\n".join([top, *texts, ""]), newline="")
    sleep(3)


def mark(path: Path, kind: str) -> str:
    """Return the mark of a file, as ``storage/marks.py`` has it."""
    if kind == "s3":
        return f"{path.stat().st_size}:{hashlib.md5(path.read_bytes()).hexdigest()}"
    of = path.stat()
    return f"{of.st_size}:{of.st_ino}:{of.st_mtime_ns}:{of.st_ctime_ns}"


def change(root: Path) -> None:
    """Add cases, and change some."""
    scan = (root / "images" / f"{FIRST}.nii.gz").read_bytes()
    for number in range(NEW):
        (root / "images" / f"new-{number:06d}.nii.gz").write_bytes(scan)
    for number in range(CHANGED):
        other = bytearray(scan)
        other[4] ^= 1  # the time in gzip's header
        (root / "images" / f"case-{number:06d}.nii.gz").write_bytes(bytes(other))
    for number in range(CHANGED, CHANGED + FAILING):
        (root / "images" / f"case-{number:06d}.nii.gz").write_bytes(scan[:-9])
    sleep(3)


if __name__ == "__main__":
    main()
