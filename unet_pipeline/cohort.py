"""A cohort run: check the request, segment each case, report. Neither Prefect nor a terminal here.

The flow and the command line call the same three functions: ``open_run`` (everything that can be
wrong with the request is found here, before any work), ``segment_case`` (never raises for what is
the case's own fault) and ``close_run``.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from secrets import token_hex
from time import perf_counter
from typing import Any

import unet_pipeline
from unet_pipeline.cluster.executor import Executor, SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.gate import examine
from unet_pipeline.inference.predictor import ModelSpec
from unet_pipeline.networks.bundle import Bundle, load_bundle, load_network
from unet_pipeline.networks.registry import network_contract
from unet_pipeline.pipeline import VolumeResult, segment_volume
from unet_pipeline.records import Case, CaseRecord, RunSummary
from unet_pipeline.report.page import report_html
from unet_pipeline.report.table import cases_csv
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.ledger import digest_json, dump_json, is_done, read_sidecar
from unet_pipeline.storage.store import Store, StorageOptions, join
from unet_pipeline.tasks import VolumeJob, plan_volume
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.volume.alignment import Tolerance
from unet_pipeline.volume.nifti import NiftiHeader
from unet_pipeline.volume.preprocessing import Step, parse_preprocessing, prepare
from unet_pipeline.volume.staging import read_header
from unet_pipeline.volume.views import ShapeOnly

log = logging.getLogger(__name__)

FORMAT = 1  # of the sidecar; a higher number segments every case again
TRANSIENT = frozenset({"storage_failed", "worker_lost"})  # worth another try
FIGURES_IN_REPORT = 60
_VERSIONS = ("torch", "monai", "nibabel", "numpy", "dask", "distributed")


@dataclass(frozen=True)
class Run:
    """A checked request.

    Attributes
    ----------
    cases
        What is to be segmented.
    faults
        Records of cases that were at fault already when the cohort was listed.
    record
        What every sidecar of this run says.
    """

    run_id: str
    settings: SegmentSettings
    store: Store
    bundle: Bundle
    steps: tuple[Step, ...]
    spec: ModelSpec
    cases: tuple[Case, ...]
    faults: tuple[CaseRecord, ...]
    record: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """URL of the folder of this run's table and report."""
        return join(self.settings.output, "runs", self.run_id)


def open_run(settings: SegmentSettings) -> Run:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        For storage that cannot be reached or written, a bundle that cannot be used, settings that
        do not fit it, or a cohort without a case.
    """
    store = Store(_storage_options(settings))
    bundle, steps, spec = open_model(settings, store)
    load_network(bundle, store)  # weights that do not fit must not be found out by every worker
    cohort = discover(store, settings.images, settings.masks)
    store.check_writable(settings.output)
    faults = tuple(_quarantined(case.name, error) for case, error in cohort.faults)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(2)}"
    record = _record(run_id, settings, bundle)
    return Run(run_id, settings, store, bundle, steps, spec, cohort.cases, faults, record)


def open_model(
    settings: SegmentSettings, store: Store
) -> tuple[Bundle, tuple[Step, ...], ModelSpec]:
    """Read a bundle and check that it can be run with these settings."""
    bundle = load_bundle(settings.model, store)
    steps = parse_preprocessing(bundle.preprocessing)
    contract = network_contract(bundle.network_def)
    if any(r % s for r, s in zip(bundle.roi_size, contract.stride, strict=True)):
        raise RequestError(
            "roi_size_invalid",
            subject=bundle.name,
            found=f"a window (roi_size) of {bundle.roi_size} voxels",
            wanted=f"sizes divisible by {contract.stride}, the network's stride",
            remedy="Correct roi_size in the bundle's configs/inference.json",
        )
    spec = ModelSpec(
        bundle=bundle,
        store=store,
        roi_size=bundle.roi_size,
        blend=settings.windows.blend,
        batch=settings.windows.batch,
        threads=settings.cluster.threads,
        device="cuda" if settings.cluster.kind == "cuda" else "auto",
    )
    return bundle, steps, spec


def segment_case(run: Run, case: Case, executor: Executor) -> CaseRecord:
    """Segment one case, or skip it if it is done already; its own faults become its record."""
    begin = perf_counter()
    try:
        header, seconds = _gate(run, case)
        if run.settings.resume and (record := _finished(run, case)) is not None:
            return record
        result = _segment(_job(run, case), header, executor)
        seconds = {**seconds, **result.seconds, "total": perf_counter() - begin}
        return _record_of(run, case, "done", result.windows, result.dice, seconds)
    except CaseError as error:
        log.warning("%s quarantined (%s)", case.name, error.code)
        return _quarantined(case.name, error)
    except Exception as error:
        log.exception("%s failed unexpectedly", case.name)
        return _quarantined(
            case.name,
            CaseError(
                "unexpected",
                found=f"an error that nobody foresaw ({type(error).__name__})",
                wanted="none",
                remedy="Look at the log of the run, and report it as a fault of unet_pipeline",
            ),
        )


def close_run(
    run: Run, records: Sequence[CaseRecord], *, seconds: float, workers: int
) -> RunSummary:
    """Write the table and the report of a run, and return its summary."""
    records = [*run.faults, *records]
    counts = {status: 0 for status in ("done", "skipped", "quarantined")}
    for record in records:
        counts[record.status] += 1
    forward = sum(r.seconds.get("forward", 0.0) for r in records if r.status == "done")
    summary = RunSummary(
        run_id=run.run_id,
        counts=counts,
        mean_dice=_mean_dice(records),
        seconds=seconds,
        cases_per_minute=60 * counts["done"] / seconds if seconds else 0.0,
        forward_share=forward / (seconds * workers) if seconds else 0.0,
        report=join(run.folder, "report.html"),
        table=join(run.folder, "cases.csv"),
    )
    run.store.write(summary.table, cases_csv(records).encode())
    page = report_html(summary, records, _figures(run, records), _context(run))
    run.store.write(summary.report, page.encode())
    run.store.write(join(run.folder, "run.json"), dump_json(summary.as_dict()))
    return summary


def plan_case(settings: SegmentSettings, image: str) -> tuple[TilePlan, Bundle]:
    """Plan one image from its header alone.

    Raises
    ------
    RequestError
        ``plan_needs_voxels`` if the bundle crops to the foreground, which no header tells.
    """
    store = Store(_storage_options(settings))
    bundle, steps, spec = open_model(settings, store)
    header = read_header(store, image)
    job = _job_of(settings, store, spec, steps, Case(image, (image,)), {})
    plan = _plan_from_header(job, header)
    if plan is None:
        raise RequestError(
            "plan_needs_voxels",
            subject=bundle.name,
            found="preprocessing that crops to the foreground or measures the volume",
            wanted="steps whose grid the header alone tells",
            remedy="Run segment; the sidecar then tells windows and tiles",
        )
    return plan, bundle


def _gate(run: Run, case: Case) -> tuple[NiftiHeader, dict[str, float]]:
    begin = perf_counter()
    if len(case.images) != run.bundle.in_channels:
        raise CaseError(
            "channels_mismatch",
            subject=case.name,
            found=f"{len(case.images)} channels",
            wanted=f"{run.bundle.in_channels}, as the bundle {run.bundle.name} takes",
            remedy="Give the channels in one manifest row, separated by ';', or another bundle",
        )
    examined = examine(run.store, case, Tolerance())
    examined.raise_for_failure()
    assert examined.header is not None  # noqa: S101  a case without failure has a header
    return examined.header, {"gate": perf_counter() - begin}


def _segment(job: VolumeJob, header: NiftiHeader, executor: Executor) -> VolumeResult:
    """Fan out tiles where there are several; a case of one tile is one call on one worker."""
    plan = _plan_from_header(job, header)
    if plan is None or plan.n_tiles > 1:
        return segment_volume(job, executor)
    result: VolumeResult = executor.result(executor.submit(segment_volume, job, SerialExecutor()))
    return result


def _plan_from_header(job: VolumeJob, header: NiftiHeader) -> TilePlan | None:
    if any(step.needs_voxels for step in job.steps):
        return None
    shape = ShapeOnly(header.grid.shape, len(job.images))
    geometry = [step for step in job.steps if not step.measures]
    return plan_volume(prepare(geometry, shape, header.grid), job)


def _finished(run: Run, case: Case) -> CaseRecord | None:
    output = join(run.settings.output, case.output_name)
    sidecar = read_sidecar(run.store, f"{output}.json")
    digests = {"weights": run.bundle.weights_digest, "settings": run.record["settings_digest"]}
    if sidecar is None or not is_done(
        run.store, case, sidecar, label_url=f"{output}.nii.gz", **digests
    ):
        return None
    return _record_of(run, case, "skipped", sidecar["windows"], sidecar["dice"], sidecar["seconds"])


def _job(run: Run, case: Case) -> VolumeJob:
    return _job_of(run.settings, run.store, run.spec, run.steps, case, run.record)


def _job_of(
    settings: SegmentSettings,
    store: Store,
    spec: ModelSpec,
    steps: tuple[Step, ...],
    case: Case,
    record: Mapping[str, Any],
) -> VolumeJob:
    return VolumeJob(
        case=case.name,
        images=case.images,
        mask=case.mask,
        output=join(settings.output, case.output_name),
        store=store,
        spec=spec,
        steps=steps,
        overlap=settings.windows.overlap,
        tile=settings.windows.tile,
        memory_bytes=int(settings.budget.memory_gb * 1e9),
        record=record,
        scratch=settings.budget.scratch,
    )


def _record(run_id: str, settings: SegmentSettings, bundle: Bundle) -> dict[str, Any]:
    numerics = {
        "format": FORMAT,
        "overlap": settings.windows.overlap,
        "blend": settings.windows.blend,
        "batch": settings.windows.batch,
        "threads": settings.cluster.threads,
        "roi_size": bundle.roi_size,
        "bundle_config": bundle.config_digest,
    }
    return {
        "format": FORMAT,
        "run_id": run_id,
        "model": bundle.name,
        "weights": bundle.weights_digest,
        "settings": numerics,
        "settings_digest": digest_json(numerics),
        "labels": {str(number): name for number, name in bundle.labels.items()},
        "versions": {
            "unet_pipeline": unet_pipeline.__version__,
            **{name: version(name) for name in _VERSIONS},
        },
    }


def _record_of(
    run: Run,
    case: Case,
    status: Any,
    windows: int,
    dice: Mapping[str, float | None] | None,
    seconds: Mapping[str, float],
) -> CaseRecord:
    output = join(run.settings.output, case.output_name)
    return CaseRecord(
        case=case.name,
        status=status,
        output=f"{output}.nii.gz",
        windows=windows,
        dice=dice,
        seconds={stage: round(value, 4) for stage, value in seconds.items()},
        figure=f"{output}.png",
    )


def _quarantined(case: str, error: CaseError) -> CaseRecord:
    return CaseRecord(case, "quarantined", code=error.code, message=str(error.about(case)))


def _mean_dice(records: Sequence[CaseRecord]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for record in records:
        for label, dice in (record.dice or {}).items():
            if dice is not None:
                values.setdefault(label, []).append(dice)
    return {label: sum(dice) / len(dice) for label, dice in sorted(values.items())}


def _figures(run: Run, records: Sequence[CaseRecord]) -> dict[str, bytes]:
    """Read the pictures that the report shows: the lowest Dice first, then in order of names."""
    drawn = [r for r in records if r.figure is not None]
    drawn.sort(key=lambda r: (r.mean_dice is None, r.mean_dice or 0.0, r.case))
    found = {}
    for record in drawn[:FIGURES_IN_REPORT]:
        if record.figure is not None and run.store.exists(record.figure):
            found[record.case] = run.store.read(record.figure)
    return found


def _context(run: Run) -> dict[str, str]:
    settings = run.settings
    return {
        "Model": f"{run.bundle.name} ({run.bundle.weights_digest[:19]})",
        "Images": settings.images,
        "Masks": settings.masks or "none",
        "Output": settings.output,
        "Cluster": settings.cluster.kind,
        "Windows": f"roi_size {' x '.join(map(str, run.bundle.roi_size))}, overlap "
        f"{settings.windows.overlap:g}, {settings.windows.blend}, batch {settings.windows.batch}",
        "Version": unet_pipeline.__version__,
    }


def _storage_options(settings: SegmentSettings) -> StorageOptions:
    storage = settings.storage
    return StorageOptions(
        endpoint_url=storage.endpoint_url, profile=storage.profile, region=storage.region
    )
