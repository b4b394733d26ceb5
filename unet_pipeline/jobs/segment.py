"""A cohort run: segment each case and report. Neither Prefect nor a terminal here.

The flow and the command line call the same functions: ``open_segment`` (everything that can be
wrong with the request), ``with_engine`` (what executes the network), ``segment_models`` (never
raises for what is the case's own fault) and ``close_segment``. ``run_segment`` is the loop of the
command line; a flow has a task per case instead.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from time import sleep
from typing import Any

from unet_pipeline import stopping
from unet_pipeline.budgets import step_to
from unet_pipeline.case_runs import quarantined, segment_again, segment_models
from unet_pipeline.closing import close_segment
from unet_pipeline.cluster.executor import Executor, cases_at_once
from unet_pipeline.errors import CaseError, RunStopped
from unet_pipeline.inference.doors import choose
from unet_pipeline.inference.engine_choice import EngineChoice
from unet_pipeline.logs import about
from unet_pipeline.records import Case, CaseRecord, RunSummary
from unet_pipeline.runs import Run, open_segment
from unet_pipeline.sharing import TAKEN, among_others, is_taken, when_free

__all__ = [
    "LOST",
    "TRANSIENT",
    "close_models",
    "close_segment",
    "faults_of",
    "open_segment",
    "run_segment",
    "segment_again",
    "segment_alone",
    "segment_case",
    "segment_models",
    "with_engine",
]

log = logging.getLogger(__name__)

TRANSIENT = frozenset(  # worth another try
    {"storage_failed", "endpoint_unreachable", "scheduler_lost", "scratch_lost"}
)
LOST = "worker_lost"  # tried again, but not as it was: by ``segment_alone``
HALVINGS = 2  # of the memory budget of a case whose workers died
FIRST_PAUSE_SECONDS = 2.0


def run_segment(run: Run, executor: Executor) -> Iterator[CaseRecord]:
    """Segment all cases of a run, several at once, and yield each record as it is ready.

    Of a run with several models a case has a record for each.

    Raises
    ------
    RunStopped
        Behind the records of the cases that were under way, for a fault that concerns all, and
        where the run's time is up or its price is reached.
    """
    run = with_engine(run, executor)
    to_do = []
    for case in run.cases:
        if known := run.known_by_all(case):
            yield from known
        else:
            to_do.append(case)
    if to_do:
        with among_others(replace(run, cases=tuple(to_do))) as shared:
            yield from _segment_all(shared, executor)


def _segment_all(run: Run, executor: Executor) -> Iterator[CaseRecord]:
    lost: dict[str, list[CaseRecord]] = {}
    try:
        for records in _in_turn(run, executor):
            if any(record.code == LOST for record in records):
                lost[records[0].case] = records
            else:
                yield from records
    except RunStopped:
        yield from chain.from_iterable(lost.values())
        raise
    for case in run.cases:
        if case.name in lost:
            yield from segment_alone(run, case, executor, lost[case.name])


def _in_turn(run: Run, executor: Executor) -> Iterator[list[CaseRecord]]:
    """Segment all cases once, those that other runs have when these let go of them."""
    tried: dict[str, list[CaseRecord]] = {}
    cases, waiting = list(run.cases), list[Case]()
    while cases:
        once = partial(_segment_if_time, run, executor=executor, tried=tried)
        for case, records in stopping.as_ready(cases_at_once(executor), once, cases):
            if is_taken(records):
                tried[case.name] = records
                waiting.append(case)
            else:
                yield records
        cases = when_free(run, waiting, executor.workers) if waiting else []


def with_engine(run: Run, executor: Executor) -> Run:
    """Choose what executes the network, once for all cases and workers (P3).

    A worker chooses, for the driver may lack the workers' hardware; the workers should be alike.

    Raises
    ------
    RequestError
        ``engine_missing``, ``engine_unsupported`` or ``engine_differs`` for an engine that was
        asked for by name.
    """
    run = replace(run, also=tuple(with_engine(one, executor) for one in run.also))
    spec, asked = run.model.spec, run.settings.windows.engine
    if run.parts:
        return run
    if asked == "eager" or run.model.bundle.whole or run.engine is not None:
        return run
    choice: EngineChoice = executor.result(executor.submit(choose, spec, asked))
    first, chosen = run.model.first_stage, choice.as_dict()
    if first is not None:
        of_first: EngineChoice = executor.result(executor.submit(choose, first.spec, asked))
        first = replace(first, spec=replace(first.spec, engine=of_first.engine))
        chosen = {**chosen, "first_stage": of_first.as_dict()}
    model = replace(run.model, spec=replace(spec, engine=choice.engine), first_stage=first)
    facts = replace(run.facts, engine=chosen)
    return replace(run, model=model, facts=facts, engine=choice)


def segment_case(run: Run, case: Case, executor: Executor) -> CaseRecord:
    """Segment one case by the model of a run that has one; as ``segment_models``."""
    (record,) = segment_models(run, case, executor)
    return record


def segment_alone(
    run: Run, case: Case, executor: Executor, records: Sequence[CaseRecord]
) -> list[CaseRecord]:
    """Segment a case whose worker died again: half the memory, and no other case under way.

    So a case that takes too much is told from those that were on the same worker, and has smaller
    tiles and scratch to do with less; and once more with a quarter. What killed the worker is not
    known: Dask says that it died. The label map is the same.

    Parameters
    ----------
    records
        What became of the case by each model; those whose worker did not die stand.
    """
    again, budget = list(records), _budget_of(run, executor)
    for _ in range(HALVINGS):
        if not any(record.code == LOST for record in again):
            break
        budget /= 2
        log.warning("%s is segmented again, alone: its worker died", case.name)
        smaller = _with_budget(run, budget, executor)
        again = segment_again(smaller, case, executor, again, {LOST})
        while is_taken(again):
            when_free(run, [case], executor.workers)
            again = segment_again(smaller, case, executor, again, {TAKEN})
    return [
        _died_again(case, record.model, budget) if record.code == LOST else record
        for record in again
    ]


def _budget_of(run: Run, executor: Executor) -> float:
    """Return the bytes that a case has had so far."""
    asked = run.settings.budget.memory_gb * 1e9
    return asked if executor.call_bytes is None else min(asked, executor.call_bytes)


def _with_budget(run: Run, budget: float, executor: Executor) -> Run:
    """Return a run, of all its models, with tiles of this many bytes."""
    settings = run.settings
    memory = settings.budget.model_copy(update={"memory_gb": budget / 1e9})
    windows = settings.windows.model_copy(update={"tile": None})
    smaller = settings.model_copy(update={"budget": memory, "windows": windows})
    step = f"{step_to(budget, _budget_of(run, executor))}, after a worker died"
    also = tuple(_with_budget(one, budget, executor) for one in run.also)
    return replace(run, settings=smaller, memory_steps=(step,), also=also)


def _died_again(case: Case, model: str, budget: float) -> CaseRecord:
    error = CaseError(
        LOST,
        found="a worker that died of this case, and again with no other case under way and a "
        f"memory budget of {budget / 1e9:.2g} GB",
        wanted="a worker that finishes it",
        remedy="Look at the workers' logs and at what ended them, and give them more memory",
    )
    return quarantined(case, error, model)


def close_models(run: Run, records: Sequence[CaseRecord], **ending: Any) -> list[RunSummary]:
    """Write table and report of each model, and return their summaries.

    Parameters
    ----------
    records
        Of all cases by all models, those of ``faults_of`` included.
    **ending
        As of ``close_segment``.
    """
    with about(run.run_id):
        return [
            close_segment(one, [r for r in records if r.model == one.model_name], **ending)
            for one in run.each
        ]


def faults_of(run: Run) -> list[CaseRecord]:
    """Return records of the cases that were at fault already when the cohort was listed."""
    return [
        quarantined(case, error, one.model_name) for one in run.each for case, error in one.faults
    ]


def _segment_if_time(
    run: Run, case: Case, executor: Executor, tried: Mapping[str, Sequence[CaseRecord]]
) -> tuple[Case, list[CaseRecord]]:
    """Segment a case, by all models or by those that could not have it before."""
    if (end := run.end.reached(executor.workers)) is not None:
        raise end
    return case, _segment_with_retries(run, case, executor, tried.get(case.name))


def _segment_with_retries(
    run: Run, case: Case, executor: Executor, before: Sequence[CaseRecord] | None
) -> list[CaseRecord]:
    records = (
        segment_models(run, case, executor)
        if before is None
        else segment_again(run, case, executor, before, {TAKEN})
    )
    for attempt in range(run.settings.budget.retries):
        if not any(record.code in TRANSIENT for record in records):
            break
        sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        records = segment_again(run, case, executor, records, TRANSIENT)
    return records
