"""What a night costs over an archive that is done but for a few cases.

    python -m benchmarks.nights [--finished 1000 10000 100000] [--store folder|s3]

The archive is one real case, segmented once and then copied under other names: image, label map and
record. The first night over it knows no index and reads every record, the second has 20 new cases,
5 that changed and 3 that fail, the third none. Each night is a command in a process of its own.
With ``s3`` the files lie behind rclone's S3 server, whose share of the time is not taken off.
Requests are counted where they are made. Prints a table in Markdown.
"""

import argparse
import json
import os
import resource
import shutil
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
COUNTS = ("done", "skipped", "quarantined")
KEYS = ("first", "seconds", "megabytes", "pages", "requests", *COUNTS)


def main() -> None:
    """Make each archive, run three nights over it, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--finished", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--store", choices=["folder", "s3"], default="folder")
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(one_night(*options.child)))
        return
    print(
        "| finished | night | s until the first window | s in all | MB | done | skipped | failed |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for finished in options.finished:
        measure(finished, options.store)


def measure(finished: int, kind: str) -> None:
    """Run the nights over one archive."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        root = Path(name, "archive")
        copy_one_case(root, finished)
        place = str(root)
        environment = dict(os.environ)
        if kind == "s3":
            from unet_pipeline.local.s3_server import serve_s3

            keys = {"key": "benchmark", "secret": "benchmark-secret"}
            server = stack.enter_context(serve_s3(Path(name), **keys))
            environment |= server.environment()
            place = f"s3://{root.name}"
        for night in ("first, no index", f"{NEW} new, {CHANGED} changed, {FAILING} fail", "none"):
            if night.startswith(str(NEW)):
                change(root)
            words = [sys.executable, "-m", "benchmarks.nights", "--child", place, "out"]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            cells = [f"{finished:,}", night, *(f"{found[key]:,.0f}" for key in KEYS)]
            print(f"| {' | '.join(cells)} |", flush=True)


def one_night(place: str, output: str) -> dict[str, Any]:
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
            output=f"{place}/{output}",
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


def copy_one_case(root: Path, count: int) -> None:
    """Segment one tiny volume, and copy what came of it."""
    import nibabel as nib

    (root / "images").mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 300, (16, 16, 16)).astype(np.int16)
    image = root / "images" / "case-000000.nii.gz"
    nib.save(nib.Nifti1Image(values, np.eye(4)), image)
    subprocess.run(
        [sys.executable, "-m", "benchmarks.nights", "--child", str(root), "out"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.rmtree(root / "out" / "runs")
    ends = ("_dseg.nii.gz", "_dseg.png", "_dseg.json")
    made = {end: (root / "out" / f"case-000000{end}").read_bytes() for end in ends}
    scan = image.read_bytes()
    for number in range(1, count):
        name = f"case-{number:06d}"
        (root / "images" / f"{name}.nii.gz").write_bytes(scan)
        for end, data in made.items():
            (root / "out" / f"{name}{end}").write_bytes(data.replace(b"case-000000", name.encode()))
    sleep(3)  # what changed just now is looked at again


def change(root: Path) -> None:
    """Add cases, and change some."""
    scan = (root / "images" / "case-000000.nii.gz").read_bytes()
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
