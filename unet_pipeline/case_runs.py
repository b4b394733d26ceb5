"""One case of a run: gate, ledger, workers, record; by one model, or by several at once."""

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from unet_pipeline.budgets import budgeted, halved, remember
from unet_pipeline.cluster.executor import Executor
from unet_pipeline.errors import CaseError, PipelineError, RunStopped
from unet_pipeline.gate.examine import Examined, examine
from unet_pipeline.inference.memory import OUT_OF_MEMORY
from unet_pipeline.logs import about
from unet_pipeline.pipeline import Outcome, segment_once, segment_volumes
from unet_pipeline.records import Case, CaseRecord, Status
from unet_pipeline.request import fits_one_tile, is_one_tile, job_of
from unet_pipeline.runs import Run
from unet_pipeline.sharing import is_taken, let_go, take, taken, unless_lost
from unet_pipeline.storage.claims import RECORD, claim
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.ledger import finished, read_record
from unet_pipeline.storage.other_models import refuse_another_model
from unet_pipeline.storage.outage import find_outage
from unet_pipeline.storage.sidecar import Sidecar
from unet_pipeline.volume.formats import objects_by_role, writer_of
from unet_pipeline.volume.header import Header
from unet_pipeline.volume_job import VolumeJob

log = logging.getLogger(__name__)

CHANGED = "input_changed"


@dataclass(frozen=True)
class Entered:
    """A case that has passed the gate of one run and is not done yet.

    Attributes
    ----------
    run, case
        The run of one model; the case without a mask that is at fault.
    begin
        Moment of ``perf_counter`` at which the case began.
    """

    run: Run
    case: Case
    examined: Examined
    header: Header
    job: VolumeJob
    begin: float


def segment_models(run: Run, case: Case, executor: Executor) -> list[CaseRecord]:
    """Segment one case by each model of a run, or skip what is done; its faults become records.

    A case whose files are replaced meanwhile is begun again, once, with the new ones.

    Returns
    -------
    list of CaseRecord
        In the order of ``run.each``.

    Raises
    ------
    RunStopped
        For a fault that concerns all cases.
    """
    with about(run.run_id, case.name):
        return _segment_or_stop(run.each, case, executor)


def segment_again(
    run: Run, case: Case, executor: Executor, records: Sequence[CaseRecord], codes: Container[str]
) -> list[CaseRecord]:
    """Segment a case once more by the models that failed by one of some codes.

    Parameters
    ----------
    records
        What became of the case by each model.
    """
    pairs = list(zip(run.each, records, strict=True))
    again = [one for one, record in pairs if record.code in codes]
    with about(run.run_id, case.name):
        fresh = iter(_segment_or_stop(again, case, executor) if again else [])
    return [next(fresh) if record.code in codes else record for _, record in pairs]


def _segment_or_stop(runs: Sequence[Run], case: Case, executor: Executor) -> list[CaseRecord]:
    records = _segment(runs, case, executor)
    pairs = list(zip(runs, records, strict=True))
    if changed := [one for one, record in pairs if record.code == CHANGED]:
        fresh = iter(_segment(changed, case, executor))
        records = [next(fresh) if record.code == CHANGED else record for record in records]
    for one, record in zip(runs, records, strict=True):
        settings = one.settings
        read = (settings.images, settings.masks)
        outage = find_outage(one.store, record.code, record.message, read, settings.output)
        if outage is not None:
            raise outage
    return records


def quarantined(case: Case, error: PipelineError, model: str = "") -> CaseRecord:
    """Return the record of a case that is at fault."""
    message = str(error.about(case.name))
    return CaseRecord(case.name, "quarantined", code=error.code, message=message, model=model)


def _segment(runs: Sequence[Run], case: Case, executor: Executor) -> list[CaseRecord]:
    """Take a case through the gates of all models, through the workers once, and to its records."""
    try:
        return _segment_taken(runs, case, executor)
    finally:
        let_go(runs, case)


def _segment_taken(runs: Sequence[Run], case: Case, executor: Executor) -> list[CaseRecord]:
    seen: list[Entered | CaseRecord] = []
    for run in runs:
        fault = _fault_of_needed(run, runs, seen)
        seen.append(fault or _entered_or_record(run, case))
    if is_taken(one for one in seen if isinstance(one, CaseRecord)):
        return [taken(run, case) for run in runs]
    entered = [one for one in seen if isinstance(one, Entered)]
    outcomes = iter(_outcomes(entered, executor))
    return [
        _record_of(one, next(outcomes), alone=len(runs) == 1) if isinstance(one, Entered) else one
        for one in seen
    ]


def _fault_of_needed(
    run: Run, runs: Sequence[Run], seen: Sequence[Entered | CaseRecord]
) -> CaseRecord | None:
    """Return the record of a case of which another model has no label map that a run needs."""
    needed = {one.model_name for one, _ in run.parts}
    if run.first is not None:
        needed.add(run.first.model_name)
    for other, record in zip(runs, seen, strict=False):
        if (
            other.model_name in needed
            and isinstance(record, CaseRecord)
            and record.status == "quarantined"
        ):
            return replace(record, model=run.model_name)
    return None


def _entered_or_record(run: Run, case: Case) -> Entered | CaseRecord:
    try:
        with of_case(case.name):
            return _entered(run, case)
    except RunStopped:
        raise
    except PipelineError as error:
        return _faulty(run, case, error)


def _faulty(run: Run, case: Case, error: PipelineError) -> CaseRecord:
    """Quarantine a case for whatever it suffers, but for what stops the run."""
    log.warning("%s is quarantined: %s", case.name, error.code)
    return quarantined(case, error, run.model_name)


def _entered(run: Run, case: Case) -> Entered | CaseRecord:
    """Take a case through the gate of one model, or find that it is done already."""
    if (record := run.known(case)) is not None:
        return record
    begin = perf_counter()
    examined = examine(run.store, case, run.model.policy)
    header = examined.sound_header()
    writer_of(run.settings.output_format).check(header)
    gated = perf_counter() - begin
    if examined.mask_fault is not None:
        case = replace(case, mask=None)
    output = run.output_of(case)
    there = read_record(run.store, f"{output}{RECORD}")
    if (skipped := _skipped(run, case, examined, there)) is not None:
        return skipped
    if run.leases is not None:
        if not take(run, case):
            return taken(run, case)
        before, there = there, read_record(run.store, f"{output}{RECORD}")
        if there != before and (skipped := _skipped(run, case, examined, there)) is not None:
            return skipped
    if not run.settings.replace:
        refuse_another_model(there, run.facts, f"{output}{RECORD}")
    ours = claim(run.store, output, run.run_id, there, run.all_endings)
    job = job_of(run.settings, run.model, case, examined, run.facts, ours)
    said = run.layout.said.get(case.name, {})
    job = replace(
        job,
        seconds={"gate": gated},
        said=said,
        region=run.region_of(case),
        combined=run.parts_of(case),
        memory_steps=run.memory_steps,
    )
    return Entered(run, case, examined, header, job, begin)


def _skipped(run: Run, case: Case, examined: Examined, there: bytes | None) -> CaseRecord | None:
    """Return the record of a case that is done already, as what lies there says; else None."""
    if not run.settings.resume or (known := _finished(run, case, there)) is None:
        return None
    again = sum(one.size for one in known.inputs if not one.etag)
    record = _record(run, case, examined, known, "skipped")
    return replace(record, bytes_read=examined.bytes_read + again, bytes_written=0)


def _outcomes(entered: Sequence[Entered], executor: Executor) -> list[Outcome]:
    """Return what the workers make of a case, for each model."""
    if not entered:
        return []
    first = entered[0]
    minutes = first.run.settings.budget.case_minutes * len(entered)
    calls = executor.for_case(60 * minutes)
    try:
        with of_case(first.case.name):
            return _on_workers(entered, calls)
    except RunStopped:
        raise
    except PipelineError as error:
        return [error] * len(entered)
    finally:
        calls.give_up()


def _on_workers(entered: Sequence[Entered], executor: Executor) -> list[Outcome]:
    """Fan out tiles where there are several; a case of one tile is one call on one worker."""
    jobs = [budgeted(one.job, executor) for one in entered]
    headers = [one.header for one in entered]
    outcomes = _segmented(jobs, headers, executor)
    while True:
        less = [
            halved(job, header, executor) if _is_short_of_memory(outcome) else None
            for job, header, outcome in zip(jobs, headers, outcomes, strict=True)
        ]
        again = [index for index, job in enumerate(less) if job is not None]
        if not again:
            return outcomes
        log.warning("%s is segmented again, in smaller tiles: no memory", entered[0].case.name)
        jobs = [smaller or job for job, smaller in zip(jobs, less, strict=True)]
        fresh = _segmented([jobs[i] for i in again], [headers[i] for i in again], executor)
        for index, outcome in zip(again, fresh, strict=True):
            outcomes[index] = outcome
            if isinstance(outcome, Sidecar):
                remember(jobs[index])


def _is_short_of_memory(outcome: Outcome) -> bool:
    return isinstance(outcome, PipelineError) and outcome.code == OUT_OF_MEMORY


def _segmented(
    jobs: Sequence[VolumeJob], headers: Sequence[Header], executor: Executor
) -> list[Outcome]:
    if not all(_is_alone(*one, executor) for one in zip(jobs, headers, strict=True)):
        return segment_volumes(jobs, executor)
    done: list[Outcome] = executor.result(executor.submit(segment_once, jobs))
    return done


def _is_alone(job: VolumeJob, header: Header, executor: Executor) -> bool:
    if job.combined:
        return True
    alone = fits_one_tile(job, header)
    if alone is None:  # only a plan can tell: it is made where the case's time counts
        alone = bool(executor.result(executor.submit(is_one_tile, job, header)))
    return alone


def _record_of(one: Entered, outcome: Outcome, *, alone: bool) -> CaseRecord:
    """Return the record of a case; its wall time, too, where it was that of one model."""
    if isinstance(outcome, PipelineError):
        return unless_lost(one.run, one.case, _faulty(one.run, one.case, outcome))
    log.info("%s is done", one.case.name)
    sidecar = outcome.within(perf_counter() - one.begin) if alone else outcome
    return _record(one.run, one.case, one.examined, sidecar, "done")


def _finished(run: Run, case: Case, there: bytes | None) -> Sidecar | None:
    """Return what is known of a case that is done already, as its record says; else None."""
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
    own = examined.mask_note or sidecar.mask_fault
    if run.night is not None:
        run.night.saw(case.name, examined.versions, sidecar, own)
    why = run.mask_faults.get(case.name) or own
    known, output = replace(sidecar, case=case.name, mask_fault=why), run.output_of(case)
    label_map, picture = (f"{output}{ending}".rstrip("/") for ending in run.endings)
    return replace(known.record(status, label_map, picture), model=run.model_name)
