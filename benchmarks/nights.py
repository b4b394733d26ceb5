"""What a night costs over an archive that is done but for a few cases.

    python -m benchmarks.nights [--finished 1000 10000] [--store folder|s3] [--without-index]
                                [--workers 1]
    python -m benchmarks.nights --endpoint http://127.0.0.1:8000 --bucket nights

The archive is one real case, segmented and then copied under other names: image, label map, record,
its line of the index, its lines of the table of statistics. The first night has 20 new cases, 5
that changed and 3 that fail, the next none. Each night is a process of its own. With ``s3`` the
files lie behind rclone's S3 server, whose share of the time is not taken off. With ``--endpoint``
the finished archive is copied (by rclone) to a bucket of that server, below ``nights-<finished>/``,
for the two nights, and removed after them; the usual AWS variables have the keys. Requests are
counted where they are made. With ``--workers`` Dask's do the cases, and memory is the driver's
alone. Prints a table in Markdown.
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
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

from unet_pipeline.local.s3_server import _rclone, serve_s3

NEW, CHANGED, FAILING = 20, 5, 3
FIRST, INDEX = "case-000000", "out/runs/finished.jsonl.gz"
COUNTS = ("done", "skipped", "quarantined")
KEYS = ("first", "seconds", "megabytes", "pages", "requests", *COUNTS)


def main() -> None:
    """Make each archive, run nights over it, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--finished", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--store", choices=["folder", "s3"], default="folder")
    parser.add_argument("--endpoint", default="", help="an S3 server that is there")
    parser.add_argument("--bucket", default="nights", help="an empty one, with --endpoint")
    parser.add_argument("--without-index", action="store_true", help="one more night, before")
    parser.add_argument("--workers", type=int, default=0, help="of Dask; 0 for none")
    parser.add_argument("--child", nargs=1)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(one_night(*options.child, options.workers)))
        return
    heads = ["finished", "night", "s to the first window", "s in all", "MB", "pages", "requests"]
    print(f"| {' | '.join([*heads, *COUNTS])} |\n|{' --- |' * (len(heads) + len(COUNTS))}")
    for finished in options.finished:
        elsewhere = None
        if options.endpoint:
            elsewhere = Elsewhere(options.endpoint, options.bucket, f"nights-{finished}")
        kind = "s3" if elsewhere else options.store
        measure(finished, kind, elsewhere, options.workers, without_index=options.without_index)


@dataclass(frozen=True)
class Elsewhere:
    """A folder of a bucket of somebody's S3 server."""

    endpoint: str
    bucket: str
    folder: str

    def copy(self, root: Path, names: Sequence[str] = ()) -> None:
        """Copy a folder of this machine, or files of it, to where it has the same URLs."""
        words = ["--transfers=16", "--ignore-times", "--no-check-dest", "--s3-no-head"]
        if names:
            words.append("--files-from-raw=-")
        self._rclone("copy", str(root), self._place, *words, said="\n".join(names))

    def remove(self) -> None:
        """Remove it."""
        self._rclone("purge", self._place)

    @property
    def _place(self) -> str:
        return f":s3:{self.bucket}/{self.folder}"

    def _rclone(self, *words: str, said: str = "") -> None:
        options = ["--config=", "--s3-provider=Other", "--s3-env-auth", "--s3-no-check-bucket"]
        words = (*words, *options, f"--s3-endpoint={self.endpoint}")
        subprocess.run([_rclone(), *words], check=True, input=said, text=True)


def measure(
    finished: int, kind: str, elsewhere: Elsewhere | None, workers: int, *, without_index: bool
) -> None:
    """Run the nights over one archive."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        inside = f"{elsewhere.bucket}/{elsewhere.folder}" if elsewhere else "archive"
        root, environment = Path(name, inside), dict(os.environ)
        (root / "images").mkdir(parents=True)
        place = str(root)
        if kind == "s3":
            keys = {"key": "benchmark", "secret": "benchmark-secret"}
            server = stack.enter_context(serve_s3(Path(name), **keys))
            environment |= server.environment()
            place = f"s3://{inside}"

        def night(title: str) -> None:
            words = [sys.executable, "-m", "benchmarks.nights", "--child", place]
            words += ["--workers", str(workers)]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            cells = [f"{finished:,}", title, *(f"{found[key]:,.0f}" for key in KEYS)]
            if title:
                print(f"| {' | '.join(cells)} |", flush=True)

        def publish(*names: str) -> None:
            if elsewhere:
                elsewhere.copy(root, names)

        write_one_case(root)
        night("")
        sleep(3)  # what changed just now is looked at again
        night("")
        copy_it(root, finished, kind)
        if elsewhere:
            environment = os.environ | {"AWS_ENDPOINT_URL": elsewhere.endpoint}
            stack.callback(elsewhere.remove)
        if without_index:
            index = (root / INDEX).read_bytes()
            (root / INDEX).unlink()
        publish()
        if without_index:
            night("no index")
            (root / INDEX).write_bytes(index)
            publish(INDEX)
        publish(*change(root))
        night(f"{NEW} new, {CHANGED} changed, {FAILING} fail")
        night("nothing new")


def one_night(place: str, workers: int) -> dict[str, Any]:
    """Run a night, and return what it cost."""
    begin = perf_counter()
    from unet_pipeline import case_runs
    from unet_pipeline.cluster.starting import starting
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
    kind: Any = "local" if workers else "serial"
    cluster = ClusterSettings(kind=kind, threads=1, workers=workers or 1)
    with starting(cluster.spec()) as opened_cluster:
        run = open_segment(
            SegmentSettings(
                images=f"{place}/images", model="phantom", output=f"{place}/out", cluster=cluster
            )
        )
        opened = perf_counter() - begin
        print(run.expected, f"{opened:.1f} s", file=sys.stderr)
        records = [*faults_of(run), *run_segment(run, opened_cluster())]
        ran = perf_counter() - begin
        (summary,) = close_models(run, records, seconds=1.0, workers=1)
    print(f"ran {ran:.1f} s", file=sys.stderr)
    return {
        "first": first or opened,
        "seconds": perf_counter() - begin,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "pages": asked.pop("ListObjectsV2", 0),
        "requests": asked.total(),
        **summary.counts,
    }


def counted_requests() -> Counter[str]:
    """Count what is asked of S3 from now on, by name, where all of it passes."""
    from aiobotocore.client import AioBaseClient

    asked, call = Counter[str](), AioBaseClient._make_api_call

    async def counted(self: Any, name: str, words: Any) -> Any:
        asked[name] += 1
        return await call(self, name, words)

    AioBaseClient._make_api_call = counted
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


def change(root: Path) -> list[str]:
    """Add cases, and change some; return the names of their files."""
    scan = (root / "images" / f"{FIRST}.nii.gz").read_bytes()
    other = bytearray(scan)
    other[4] ^= 1  # the time in gzip's header
    files = {f"new-{number:06d}": scan for number in range(NEW)}
    files |= {f"case-{number:06d}": bytes(other) for number in range(CHANGED)}
    failing = range(CHANGED, CHANGED + FAILING)
    files |= {f"case-{number:06d}": scan[:-9] for number in failing}
    names = {f"images/{name}.nii.gz": data for name, data in files.items()}
    for name, data in names.items():
        (root / name).write_bytes(data)
    sleep(3)
    return [*names]


if __name__ == "__main__":
    main()
