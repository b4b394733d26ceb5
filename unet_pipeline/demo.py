"""The main job on phantoms, with everything real: S3 server, Prefect server, Dask cluster.

Nothing outside this machine is used, nothing is left running, and what is worth keeping (report,
label maps, logs) is copied to a folder.
"""

import re
import secrets
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.status import Status

from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.console import err
from unet_pipeline.demo_results import LOGS, copies_of, copy_results, print_results
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.up import ends_on_sigterm
from unet_pipeline.local import processes
from unet_pipeline.local.prefect_server import prefect_server
from unet_pipeline.local.s3_server import S3Server, serve_s3
from unet_pipeline.networks.bundle_tools import prune_bundle
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.phantoms import turned_image, write_cohort
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import StorageOptions, Store, join

PHANTOMS = 24  # as many as it takes to say which label map is unlike the others
TURNED = 23  # the patient of this image lies the wrong way; the mask of the last one is misaligned
CASES = tuple(f"phantom-{number:02d}" for number in range(1, PHANTOMS + 1))
MODELS = ("phantom", "phantom-depth-1")
WORKERS = 2
LIMIT_SECONDS = 600.0
EXPECTED = {"done": PHANTOMS - 1, "skipped": 0, "quarantined": 2}
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
    copies.check(copies_of(MODELS, CASES))
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
            status.update("Fetching the results")
            copy_results(demo.store, demo.bucket, MODELS, CASES, copies)
        except KeyboardInterrupt:
            err.print("Interrupted; stopping what was started")
            return 130
        status.stop()
        counts = print_results(output, MODELS, time.perf_counter() - begin)
    return 0 if all(counts[model] == EXPECTED for model in MODELS) else 1


def _object_store(work: Path) -> AbstractContextManager[S3Server]:
    folder = work / "s3"
    folder.mkdir()
    return serve_s3(folder, key="demo-key-1", secret=secrets.token_hex(16))


def _make_cohort(s3: S3Server, work: Path) -> DemoRun:
    """Put phantoms into a bucket, and some that went wrong; and a smaller model beside the first.

    One lies the wrong way, one has a misaligned mask, and one is a copy that was cut short.
    """
    bucket = s3.make_bucket("demo")
    store = Store(StorageOptions(endpoint_url=s3.endpoint_url, key=s3.key, secret=s3.secret))
    names = write_cohort(store, join(bucket, "scans"), PHANTOMS, seed=7, misaligned=True)
    for kind in ("images", "masks"):
        whole = store.read(join(bucket, "scans", kind, f"{names[0]}.nii.gz"))
        data = whole[: len(whole) // 2] if kind == "images" else whole
        store.write(join(bucket, "scans", kind, "phantom-cut-short.nii.gz"), data)
    turned = turned_image(TURNED, seed=7)
    store.write(join(bucket, "scans", "images", f"{CASES[TURNED - 1]}.nii.gz"), turned)
    shallow = join(bucket, "models", MODELS[1])
    prune_bundle(load_bundle(MODELS[0], store), store, shallow, 1, "fast")
    settings = SegmentSettings(
        images=join(bucket, "scans", "images"),
        masks=join(bucket, "scans", "masks"),
        require_masks=True,
        model=MODELS[0],
        also=(shallow,),
        output=join(bucket, "segmentations"),
        cluster=ClusterSettings(kind="local", workers=WORKERS, threads=1),
    )
    return DemoRun(store, bucket, settings, work)


def _keep_logs(work: Path, copies: OwnFiles) -> None:
    logs = (work / LOGS[0], work / "prefect" / LOGS[1])
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
