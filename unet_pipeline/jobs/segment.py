"""A cohort run: segment each case and report. Neither Prefect nor a terminal here.

The flow and the command line call the same functions: ``open_segment`` (everything that can be
wrong with the request), ``with_engine`` (what executes the network), ``segment_case`` (never raises
for what is the case's own fault) and ``close_segment``. ``run_segment`` is the loop of the command
line; a flow has a task per case instead.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter, sleep

from unet_pipeline import stopping
from unet_pipeline.closing import close_segment
from unet_pipeline.cluster.executor import Executor, SerialExecutor, cases_at_once
from unet_pipeline.errors import CaseError, PipelineError, RunStopped
from unet_pipeline.gate.examine import Examined, examine
from unet_pipeline.inference.choice import EngineChoice, choose
from unet_pipeline.pipeline import segment_volume
from unet_pipeline.records import Case, CaseRecord, Status
from unet_pipeline.request import Run, fits_one_tile, is_one_tile, job_of, open_segment
from unet_pipeline.storage.claims import RECORD, claim
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.ledger import finished, read_record
from unet_pipeline.storage.other_models import refuse_another_model
from unet_pipeline.storage.outage import find_outage
from unet_pipeline.storage.sidecar import Sidecar
from unet_pipeline.tasks import VolumeJob
from unet_pipeline.volume.formats import objects_by_role, writer_of
from unet_pipeline.volume.header import Header

__all__ = [
    "LOST",
    "TRANSIENT",
    "close_segment",
    "faults_of",
    "lost_cases",
    "open_segment",
    "run_segment",
    "segment_alone",
    "segment_case",
    "with_engine",
]

log = logging.getLogger(__name__)

TRANSIENT = frozenset({"storage_failed"})  # codes that are worth another try
LOST = "worker_lost"  # tried once more, but not as it was: by ``segment_alone``
FIRST_PAUSE_SECONDS = 2.0


def run_segment(run: Run, executor: Executor) -> Iterator[CaseRecord]:
    """Segment all cases of a run, several at once, and yield each record as it is ready.

    Raises
    ------
    RunStopped
        Behind the records of the cases that were under way, for a fault that concerns all.
    """
    run = with_engine(run, executor)
    lost: list[CaseRecord] = []
    once = partial(_segment_with_retries, run, executor=executor)
    try:
        for record in stopping.as_ready(cases_at_once(executor), once, run.cases):
            if record.code == LOST:
                lost.append(record)
            else:
                yield record
    except RunStopped:
        yield from lost
        raise
    for case in lost_cases(run, lost):
        yield segment_alone(run, case, executor)


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
    if asked == "eager" or run.model.bundle.whole or run.engine is not None:
        return run
    choice: EngineChoice = executor.result(executor.submit(choose, spec, asked))
    model = replace(run.model, spec=replace(spec, engine=choice.engine))
    facts = replace(run.facts, engine=choice.as_dict())
    return replace(run, model=model, facts=facts, engine=choice)


def segment_case(run: Run, case: Case, executor: Executor) -> CaseRecord:
    """Segment one case, or skip it if it is done already; its own faults become its record.

    A case whose files are replaced meanwhile is begun again, once, with the new ones.

    Raises
    ------
    RunStopped
        For a fault that concerns all cases.
    """
    record = _segment_once(run, case, executor)
    if record.code == "input_changed":
        record = _segment_once(run, case, executor)
    settings = run.settings
    read = (settings.images, settings.masks)
    outage = find_outage(run.store, record.code, record.message, read, settings.output)
    if outage is not None:
        raise outage
    return record


def _segment_once(run: Run, case: Case, executor: Executor) -> CaseRecord:
    """Segment a case; quarantine it for whatever it suffers, but for what stops the run."""
    try:
        with of_case(case.name):
            return _passed(run, case, executor.for_case(60 * run.settings.budget.case_minutes))
    except RunStopped:
        raise
    except PipelineError as error:
        log.warning("%s is quarantined: %s", case.name, error.code)
        return quarantined(case, error)


def _passed(run: Run, case: Case, executor: Executor) -> CaseRecord:
    """Take a case through gate, workers and record, or find that all is done already."""
    begin = perf_counter()
    examined, header = _gate(run, case)
    gated = perf_counter() - begin
    if examined.mask_fault is not None:
        case = replace(case, mask=None)
    output = run.output_of(case)
    there = read_record(run.store, f"{output}{RECORD}")
    if run.settings.resume and (known := _finished(run, case, there)) is not None:
        again = sum(one.size for one in known.inputs if not one.etag)
        record = _record(run, case, examined, known, "skipped")
        return replace(record, bytes_read=examined.bytes_read + again, bytes_written=0)
    if not run.settings.replace:
        refuse_another_model(there, run.facts, f"{output}{RECORD}")
    ours = claim(run.store, output, run.run_id, there, run.endings)
    job = job_of(run.settings, run.model, case, examined, run.facts, ours)
    job = replace(job, seconds={"gate": gated}, said=run.layout.said.get(case.name, {}))
    try:
        sidecar = _segment(job, header, executor)
    finally:
        executor.give_up()
    return _record(run, case, examined, sidecar.within(perf_counter() - begin), "done")


def lost_cases(run: Run, records: Sequence[CaseRecord]) -> list[Case]:
    """Return the cases whose workers died: of each worker, its own or another's fault."""
    names = {record.case for record in records if record.code == LOST}
    return [case for case in run.cases if case.name in names]


def segment_alone(run: Run, case: Case, executor: Executor) -> CaseRecord:
    """Segment a case whose worker died once more: half the memory, and no other case under way.

    So a case that takes too much is told from those that were on the same worker, and has smaller
    tiles and scratch to do with less. The label map is the same.
    """
    settings = run.settings
    budget = settings.budget.model_copy(update={"memory_gb": settings.budget.memory_gb / 2})
    windows = settings.windows.model_copy(update={"tile": None})
    smaller = settings.model_copy(update={"budget": budget, "windows": windows})
    record = segment_case(replace(run, settings=smaller), case, executor)
    if record.code != LOST:
        return record
    return quarantined(
        case,
        CaseError(
            LOST,
            found="a worker that died of this case, and again with half the memory budget and no "
            "other case under way",
            wanted="a worker that finishes it",
            remedy="Give the workers more memory, or the case less (--memory-gb), and look at "
            "their logs",
        ),
    )


def faults_of(run: Run) -> list[CaseRecord]:
    """Return records of the cases that were at fault already when the cohort was listed."""
    return [quarantined(case, error) for case, error in run.faults]


def quarantined(case: Case, error: PipelineError) -> CaseRecord:
    """Return the record of a case that is at fault."""
    message = str(error.about(case.name))
    return CaseRecord(case.name, "quarantined", code=error.code, message=message)


def _segment_with_retries(run: Run, case: Case, executor: Executor) -> CaseRecord:
    record = segment_case(run, case, executor)
    for attempt in range(run.settings.budget.retries):
        if record.code not in TRANSIENT:
            break
        sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        record = segment_case(run, case, executor)
    return record


def _gate(run: Run, case: Case) -> tuple[Examined, Header]:
    examined = examine(run.store, case, run.model.policy)
    header = examined.sound_header()
    writer_of(run.settings.output_format).check(header)
    return examined, header


def _segment(job: VolumeJob, header: Header, executor: Executor) -> Sidecar:
    """Fan out tiles where there are several; a case of one tile is one call on one worker."""
    alone = fits_one_tile(job, header)
    if alone is None:  # only a plan can tell: it is made where the case's time counts
        alone = executor.result(executor.submit(is_one_tile, job, header))
    if not alone:
        return segment_volume(job, executor)
    result: Sidecar = executor.result(executor.submit(segment_volume, job, SerialExecutor()))
    return result


def _finished(run: Run, case: Case, there: bytes | None) -> Sidecar | None:
    """Return what is known of a case that is done already, as what lies there says; else None."""
    if there is None:
        return None
    try:
        inputs = objects_by_role(run.store, case, run.model.policy.level)
    except CaseError:  # one is not there
        return None
    label_map = f"{run.output_of(case)}{run.endings[0]}"
    return finished(run.store, inputs, there, run.facts, label_map)


def _record(
    run: Run, case: Case, examined: Examined, sidecar: Sidecar, status: Status
) -> CaseRecord:
    """Return the record of a case that has a label map, with what this run says of its mask."""
    why = run.mask_faults.get(case.name) or examined.mask_note or sidecar.mask_fault
    known, output = replace(sidecar, case=case.name, mask_fault=why), run.output_of(case)
    label_map, picture = (f"{output}{ending}".rstrip("/") for ending in run.endings)
    return known.record(status, label_map, picture)
