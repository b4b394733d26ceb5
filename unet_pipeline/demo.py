"""The main job on phantoms, with everything real: S3 server, Prefect server, Dask cluster.

Nothing outside this machine is used, nothing is left running, and what is worth keeping (report,
label maps, logs) is copied to a folder.
"""

import csv
import io
import re
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.status import Status
from rich.table import Table
from rich.text import Text

from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.console import STATUS_STYLE, err, out
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.up import ends_on_sigterm
from unet_pipeline.local import processes
from unet_pipeline.local.prefect_server import prefect_server
from unet_pipeline.local.s3_server import S3Server, serve_s3
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import StorageOptions, Store, basename, join

PHANTOMS = 6  # the last one's mask is misaligned
WORKERS = 2
LIMIT_SECONDS = 600.0
COPIES = (
    *("report.html", "cases.csv", "flow.log", "server.log"),
    *(f"phantom-{number:02d}_dseg.nii.gz" for number in range(1, PHANTOMS + 1)),
)
EXPECTED = {"done": PHANTOMS - 1, "quarantined": 2}
_FINISHED = re.compile(r"Task run '[^']+' - Finished in state")


@dataclass(frozen=True)
class DemoRun:
    """Where the demo's cohort lies and what reads it."""

    store: Store
    bucket: str
    settings: SegmentSettings
    work: Path


def run_demo(output: Path) -> int:
    """Run the demo, print what became of each case, and return the exit status.

    Parameters
    ----------
    output
        Folder that the report, the label maps and the logs are copied to.

    Raises
    ------
    RequestError
        ``output_foreign`` where files lie that no earlier demo wrote.
    """
    begin = time.perf_counter()
    copies = OwnFiles(Store(), str(output))
    copies.check(COPIES)
    with ExitStack() as stack:
        stack.enter_context(ends_on_sigterm())
        status = stack.enter_context(err.status("Starting a local S3 server"))
        work = stack.enter_context(scratch_folder())
        stack.callback(_keep_logs, work, copies)
        try:
            s3 = stack.enter_context(_object_store(work))
            status.update("Writing a cohort of phantoms")
            demo = _make_cohort(s3, work)
            status.update("Starting a Prefect server")
            server = stack.enter_context(prefect_server(work / "prefect", port=0))
            _run_flow(demo, {**server.env, **s3.environment()}, output, status)
            status.update("Fetching the report")
            rows, report = _fetch(demo, output, copies)
        except KeyboardInterrupt:
            err.print("Interrupted; stopping what was started")
            return 130
        status.stop()
        _print(rows, report, time.perf_counter() - begin)
    return 0 if _counts(rows) == EXPECTED else 1


def _object_store(work: Path) -> AbstractContextManager[S3Server]:
    folder = work / "s3"
    folder.mkdir()
    return serve_s3(folder, key="demo-key-1", secret=secrets.token_hex(16))


def _make_cohort(s3: S3Server, work: Path) -> DemoRun:
    """Put phantoms into a bucket: one with a misaligned mask, and a copy of one cut short."""
    bucket = s3.make_bucket("demo")
    store = Store(StorageOptions(endpoint_url=s3.endpoint_url, key=s3.key, secret=s3.secret))
    names = write_cohort(store, join(bucket, "scans"), PHANTOMS, seed=7, misaligned=True)
    for kind in ("images", "masks"):
        whole = store.read(join(bucket, "scans", kind, f"{names[0]}.nii.gz"))
        data = whole[: len(whole) // 2] if kind == "images" else whole
        store.write(join(bucket, "scans", kind, "phantom-cut-short.nii.gz"), data)
    settings = SegmentSettings(
        images=join(bucket, "scans", "images"),
        masks=join(bucket, "scans", "masks"),
        require_masks=True,
        model="phantom",
        output=join(bucket, "segmentations"),
        cluster=ClusterSettings(kind="local", workers=WORKERS, threads=1),
    )
    return DemoRun(store, bucket, settings, work)


def _keep_logs(work: Path, copies: OwnFiles) -> None:
    logs = (work / "flow.log", work / "prefect" / "server.log")
    copies.write({log.name: log.read_bytes() for log in logs if log.is_file()})


def _run_flow(demo: DemoRun, env: Mapping[str, str], output: Path, status: Status) -> None:
    """Run the flow ``segment`` in a process of its own, and show how far it is."""
    request, log = demo.work / "settings.json", demo.work / "flow.log"
    request.write_text(demo.settings.model_dump_json())
    command = [sys.executable, "-m", "unet_pipeline_flows.segment", str(request)]
    process = processes.start(command, env=env, log=log)
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            done = len(_FINISHED.findall(log.read_text(errors="replace")))
            status.update(f"Flow segment on {WORKERS} Dask workers: {done} cases finished")
            time.sleep(0.3)
    finally:
        processes.stop(process)
    if process.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise RequestError(
            "demo_failed",
            found=f"a flow run that ended with: {said[-1] if said else 'nothing'}",
            wanted="a completed run",
            remedy=f"Look into {output / log.name}",
        )


def _fetch(demo: DemoRun, output: Path, copies: OwnFiles) -> tuple[list[dict[str, str]], Path]:
    """Copy report, table and label maps; return the table's rows and the report's path."""
    store, root = demo.store, demo.settings.output
    tables = [url for url in store.list_files(join(root, "runs")) if url.endswith("cases.csv")]
    table = store.read(tables[-1])
    files = {"cases.csv": table}
    files["report.html"] = store.read(tables[-1].replace("cases.csv", "report.html"))
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    for row in rows:
        if row["output"]:
            files[basename(row["output"])] = store.read(row["output"])
    copies.write(files)
    return rows, (output / "report.html").resolve()


def _print(rows: Sequence[Mapping[str, str]], report: Path, seconds: float) -> None:
    table = Table(title="Cohort of phantoms", title_justify="left", header_style="bold")
    for name in ("case", "status", "Dice", "reason"):
        table.add_column(name, overflow="fold")
    for row in rows:
        dice = f"{float(row['mean_dice']):.3f}" if row["mean_dice"] else ""
        reason = f"{row['code']}: {row['message']}" if row["code"] else ""
        state = Text(row["status"], style=STATUS_STYLE[row["status"]])
        table.add_row(Text(row["case"]), state, dice, Text(reason))
    out.print(table)
    out.print("Label maps, each beside its sidecar (.json) and its picture (.png):")
    for row in rows:
        if row["output"]:
            out.print(Text(f"  {row['output']}"), soft_wrap=True)
    out.print(Text(f"Copies  {report.parent}"), soft_wrap=True)
    out.print(Text(f"Report  {report}"), soft_wrap=True)
    out.print(f"{seconds:.0f} s; the servers are stopped.", highlight=False)


def _counts(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    found = [row["status"] for row in rows]
    return {status: found.count(status) for status in sorted(set(found))}
