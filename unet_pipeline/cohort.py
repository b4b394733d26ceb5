"""A cohort run: segment each case and report. Neither Prefect nor a terminal here.

The flow and the command line call the same functions: ``open_run`` (everything that can be wrong
with the request), ``with_engine`` (what executes the network), ``segment_case`` (never raises for
what is the case's own fault) and ``close_run``. ``segment_all`` is the loop of the command line; a
flow has a task per case instead.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from time import perf_counter, sleep
from typing import Any

import unet_pipeline
from unet_pipeline.cluster.executor import Executor, SerialExecutor, cases_at_once
from unet_pipeline.cost import run_cost, with_wait
from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.gate.examine import Examined, examine
from unet_pipeline.inference.choice import Choice, choose
from unet_pipeline.pipeline import VolumeResult, segment_volume
from unet_pipeline.records import Case, CaseRecord, RunSummary, Status, json_bytes
from unet_pipeline.report.page import MAX_FIGURES, report_html
from unet_pipeline.report.table import attention_order, cases_csv
from unet_pipeline.request import Run, job_of, open_run, plan_from_header, rate_of
from unet_pipeline.storage.ledger import inputs_of, is_done, read_sidecar
from unet_pipeline.storage.store import join
from unet_pipeline.tasks import VolumeJob
from unet_pipeline.volume.nifti_header import NiftiHeader

__all__ = [
    "TRANSIENT",
    "close_run",
    "faults_of",
    "open_run",
    "segment_all",
    "segment_case",
    "with_engine",
]

log = logging.getLogger(__name__)

TRANSIENT = frozenset({"storage_failed", "worker_lost"})  # codes that are worth another try
FIRST_PAUSE_SECONDS = 2.0


def segment_all(run: Run, executor: Executor) -> Iterator[CaseRecord]:
    """Segment all cases of a run, several at once, and yield each record as it is ready."""
    run = with_engine(run, executor)
    with ThreadPoolExecutor(cases_at_once(executor)) as pool:
        futures = [pool.submit(_segment_with_retries, run, case, executor) for case in run.cases]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def with_engine(run: Run, executor: Executor) -> Run:
    """Choose what executes the network, once for all cases and workers (P3).

    A worker chooses, for the driver may lack the workers' hardware; the workers should be alike.

    Raises
    ------
    RequestError
        ``engine_missing``, ``engine_unsupported`` or ``engine_differs`` for an engine that was
        asked for by name.
    """
    spec, asked = run.model.spec, run.settings.windows.engine
    if asked == "eager" or run.engine is not None:
        return run
    choice: Choice = executor.result(executor.submit(choose, spec, asked))
    model = replace(run.model, spec=replace(spec, engine=choice.engine))
    record = {**run.record, "engine": choice.as_dict()}
    return replace(run, model=model, record=record, engine=choice)


def segment_case(run: Run, case: Case, executor: Executor) -> CaseRecord:
    """Segment one case, or skip it if it is done already; its own faults become its record."""
    begin = perf_counter()
    executor = executor.with_time_limit(60 * run.settings.budget.case_minutes)
    try:
        examined, header = _gate(run, case)
        gated = perf_counter() - begin
        if run.settings.resume and (record := _finished(run, case)) is not None:
            return replace(record, bytes_read=examined.bytes_read + record.bytes_read)
        job = job_of(run.settings, run.model, case, run.record, examined)
        result = _segment(replace(job, spent={"gate": gated}), header, executor)
        sidecar = {
            "windows": result.windows,
            "dice": result.dice,
            "gate": asdict(result.gate),
            "seconds": with_wait(result.seconds, perf_counter() - begin),
        }
        record = _record(run, case, "done", sidecar)
        return replace(record, bytes_read=result.bytes_read, bytes_written=result.bytes_written)
    except PipelineError as error:
        log.warning("%s is quarantined: %s", case.name, error.code)
        return quarantined(case, error)
    except Exception as error:
        log.exception("%s failed for a reason that nobody foresaw", case.name)
        return quarantined(
            case,
            CaseError(
                "unexpected",
                found=f"an error that nobody foresaw ({type(error).__name__})",
                wanted="none",
                remedy="Look at the log of the run, and report it as a fault of unet_pipeline",
            ),
        )


def faults_of(run: Run) -> list[CaseRecord]:
    """Return records of the cases that were at fault already when the cohort was listed."""
    return [quarantined(case, error) for case, error in run.faults]


def quarantined(case: Case, error: PipelineError) -> CaseRecord:
    """Return the record of a case that is at fault."""
    message = str(error.about(case.name))
    return CaseRecord(case.name, "quarantined", code=error.code, message=message)


def close_run(
    run: Run, records: Sequence[CaseRecord], *, seconds: float, workers: int
) -> RunSummary:
    """Write the table and the report of a run, and return its summary.

    Parameters
    ----------
    records
        Of all cases, those of ``faults_of`` included.
    seconds
        Wall time from the first case to the last.
    """
    records = sorted(records, key=lambda record: record.case)
    counts = {
        status: sum(record.status == status for record in records)
        for status in ("done", "skipped", "quarantined")
    }
    cost = run_cost(records, seconds=seconds, workers=workers, rate=rate_of(run.settings.cost))
    summary = RunSummary(
        run_id=run.run_id,
        counts=counts,
        mean_dice=_mean_dice(records),
        seconds=round(seconds, 3),
        cases_per_minute=60 * counts["done"] / seconds if seconds else 0.0,
        forward_share=cost.busy_share,
        report=join(run.folder, "report.html"),
        table=join(run.folder, "cases.csv"),
        cost=cost,
    )
    page = report_html(summary, records, _figures(run, records), _context(run))
    run.store.write(summary.table, cases_csv(records, cost.price).encode())
    run.store.write(summary.report, page.encode())
    run.store.write(join(run.folder, "cost.json"), json_bytes(cost.as_dict()))
    run.store.write(join(run.folder, "run.json"), json_bytes(summary.as_dict()))
    return summary


def _segment_with_retries(run: Run, case: Case, executor: Executor) -> CaseRecord:
    record = segment_case(run, case, executor)
    for attempt in range(run.settings.budget.retries):
        if record.code not in TRANSIENT:
            break
        sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        record = segment_case(run, case, executor)
    return record


def _gate(run: Run, case: Case) -> tuple[Examined, NiftiHeader]:
    examined = examine(run.store, case, run.model.policy)
    return examined, examined.sound_header()


def _segment(job: VolumeJob, header: NiftiHeader, executor: Executor) -> VolumeResult:
    """Fan out tiles where there are several; a case of one tile is one call on one worker."""
    plan = plan_from_header(job, header)
    if plan is None or plan.n_tiles > 1:
        return segment_volume(job, executor)
    result: VolumeResult = executor.result(executor.submit(segment_volume, job, SerialExecutor()))
    return result


def _finished(run: Run, case: Case) -> CaseRecord | None:
    output = run.output_of(case)
    sidecar = read_sidecar(run.store, f"{output}.json")
    if sidecar is None or not is_done(
        run.store,
        case,
        sidecar,
        weights=run.model.bundle.weights_digest,
        settings=run.record["settings_digest"],
        label_url=f"{output}.nii.gz",
    ):
        return None
    record = _record(run, case, "skipped", sidecar)
    return replace(
        record, bytes_read=sum(o.size for o in inputs_of(sidecar).values() if not o.etag)
    )


def _record(run: Run, case: Case, status: Status, sidecar: Mapping[str, Any]) -> CaseRecord:
    """Return the record of a case that has a label map; its code is the gate's first warning."""
    gate = sidecar["gate"]
    warns = gate["verdict"] == "warn"
    return CaseRecord(
        case=case.name,
        status=status,
        code=gate["codes"][0] if warns else "",
        message=gate["message"] if warns else "",
        output=f"{run.output_of(case)}.nii.gz",
        windows=sidecar["windows"],
        dice=sidecar["dice"],
        seconds={stage: round(value, 4) for stage, value in sidecar["seconds"].items()},
        figure=f"{run.output_of(case)}.png",
    )


def _mean_dice(records: Sequence[CaseRecord]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for record in records:
        for label, dice in (record.dice or {}).items():
            if dice is not None:
                values.setdefault(label, []).append(dice)
    return {label: sum(dice) / len(dice) for label, dice in sorted(values.items())}


def _figures(run: Run, records: Sequence[CaseRecord]) -> dict[str, bytes]:
    """Read the pictures that the report shows: the cases that most want a look."""
    drawn = [record for record in attention_order(records) if record.figure is not None]
    return {
        record.case: run.store.read(record.figure)
        for record in drawn[:MAX_FIGURES]
        if record.figure is not None and run.store.exists(record.figure)
    }


def _context(run: Run) -> dict[str, str]:
    settings, model = run.settings, run.model
    return {
        "Model": f"{model.bundle.name} ({model.bundle.weights_digest[:19]})",
        "Images": settings.images,
        "Masks": settings.masks or "none",
        "Output": settings.output,
        "Cluster": settings.cluster.kind,
        "Windows": f"roi_size {' x '.join(map(str, model.spec.roi_size))}, overlap "
        f"{model.overlap:g}, {model.spec.blend}, batch {model.spec.batch}",
        "Engine": _engine(run),
        "Version": unet_pipeline.__version__,
    }


def _engine(run: Run) -> str:
    engine = run.model.spec.engine
    if run.engine is None:
        return engine
    timed = sorted(run.engine.seconds_per_window.items(), key=lambda item: item[1])
    times = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in timed)
    return f"{engine} (a window: {times})" if times else engine
