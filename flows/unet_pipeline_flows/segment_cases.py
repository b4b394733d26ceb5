"""The cases of a run as task runs: what the flow ``segment`` does once its request is checked."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any, cast

import prefect
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.runtime import deployment
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from unet_pipeline import stopping
from unet_pipeline.cluster.executor import Executor, cases_at_once
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.cost import expected_seconds
from unet_pipeline.errors import RunStopped
from unet_pipeline.jobs.segment import (
    LOST,
    TRANSIENT,
    close_models,
    faults_of,
    open_segment,
    segment_again,
    segment_alone,
    segment_models,
    with_engine,
)
from unet_pipeline.logs import about
from unet_pipeline.records import Case, CaseRecord, RunSummary
from unet_pipeline.run_end import AS_ASKED
from unet_pipeline.runs import Run
from unet_pipeline.sharing import TAKEN, among_others, is_taken, when_free
from unet_pipeline.watching.places import places_of_environment
from unet_pipeline.watching.watch import NAME, Watch, watching
from unet_pipeline_flows.attention import call_for_attention, called_if_late
from unet_pipeline_flows.away import await_server
from unet_pipeline_flows.lifecycle import End, cancellable, ended
from unet_pipeline_flows.page import Bar
from unet_pipeline_flows.results import counts_of, publish

UNFINISHED = {"cluster_closed", stopping.CODE}  # codes of cases that a run's end cut short
STATE_NAMES = {"done": "Completed", "skipped": "Skipped", "quarantined": "Quarantined"}

Tried = list[CaseRecord]  # of one case, by each model
UnderWay = dict[Future[Any], PrefectConcurrentFuture[Tried | None]]


@dataclass(frozen=True)
class OfModels:
    """The summaries of a run with several models, as one result."""

    summaries: Sequence[RunSummary]

    @property
    def stopped(self) -> str:
        """Why the run did not come to its end; empty if it did."""
        return next((one.stopped for one in self.summaries if one.stopped), "")

    @property
    def report(self) -> str:
        """URLs of the reports."""
        return ", ".join(one.report for one in self.summaries)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary of each model as plain JSON types."""
        return {one.model: one.as_dict() for one in self.summaries}


class TransientError(RuntimeError):
    """A fault that may pass: the task run is tried again."""


class CaseWork:
    """What the task runs of one flow run share; opaque to Prefect, which would look into it."""

    def __init__(self, run: Run, executor: Executor, watch: Watch) -> None:
        self.run, self.executor, self.watch = run, executor, watch
        self.records: list[CaseRecord] = []
        self.stopped: RunStopped | None = None  # by what concerns all cases
        self.tried: dict[str, Tried] = {}  # what became of each case so far
        self.lost: list[Case] = []  # whose workers died: tried once more, alone
        self.taken: list[Case] = []  # by other runs: looked at again when these let go of them
        self.alone = False
        self.begin = perf_counter()
        watch.begin(run, executor.workers)
        self.take(faults_of(run))

    def take(self, records: Sequence[CaseRecord]) -> None:
        """Take records that are ready."""
        self.records.extend(records)
        self.watch.take(records)

    def segment(self, case: Case) -> Tried:
        """Segment a case by all models, or once more by those that failed."""
        run, executor, before = self.run, self.executor, self.tried.get(case.name)
        if before is None:
            records = segment_models(run, case, executor)
        elif self.alone:
            records = segment_alone(run, case, executor, before)
        else:
            records = segment_again(run, case, executor, before, TRANSIENT | {TAKEN})
        self.tried[case.name] = records
        return records

    def close(self, stopped: RunStopped | None) -> list[RunSummary]:
        """Write table and report of what was done by each model."""
        summaries = close_models(
            self.run,
            self.records,
            seconds=perf_counter() - self.begin,
            workers=self.executor.workers,
            stopped=stopped,
            scheduler=f"Prefect {prefect.__version__}",
        )
        self.watch.end(summaries)
        return summaries


@task(
    task_run_name="{case.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_jitter_factor=0.5,
)
def segment_one(case: Case, work: CaseWork) -> State[Tried | None]:
    """Segment one case. A quarantined case is a result; a fault that may pass is tried again."""
    if work.stopped is not None:
        return Completed(name="Stopped", message="not begun")
    try:
        records = work.segment(case)
    except RunStopped as error:
        work.stopped = error
        return Completed(name="Stopped", message=str(error))
    context = TaskRunContext.get()
    tries = context.task_run.run_count if context else 1
    passing = [record for record in records if record.code in TRANSIENT]
    if passing and tries <= work.run.settings.budget.retries:
        raise TransientError(passing[0].message)
    said = _outcomes(records)
    if is_taken(records):
        work.taken.append(case)
        return Completed(name="WithAnotherRun", message=said)
    if not work.alone and any(record.code == LOST for record in records):
        work.lost.append(case)
        return Completed(name="TriedAgain", message=said)
    return Completed(name=_state_name(records), message=said, data=records)


def _state_name(records: Tried) -> str:
    """Return the state of a case: the worst that a model made of it."""
    if any(record.code in UNFINISHED for record in records):
        return "Stopped"
    found = {record.status for record in records}
    return next(STATE_NAMES[one] for one in ("quarantined", "done", "skipped") if one in found)


def segment_cases(settings: SegmentSettings) -> End:
    """Run a task per case, and report."""
    name = deployment.name or NAME  # by hand there is no deployment
    with watching(places_of_environment(), name) as watch:
        run = open_segment(settings)
        with about(run.run_id):
            return _segment_all(run, settings, watch)


def _segment_all(run: Run, settings: SegmentSettings, watch: Watch) -> End:
    get_run_logger().info("run %s: %s", run.run_id, run.expected)
    with open_executor(settings.cluster.spec(settings.windows.batch)) as executor:
        work = CaseWork(run, executor, watch)
        with cancellable(lambda why: _say_cancelled(work.close(why))):
            _with_progress(work)
            summaries = work.close(work.stopped)
    await_server()
    for summary in summaries:
        publish(summary, _of_model(work.records, summary), run.store)
    for summary in summaries:
        call_for_attention(summary, _of_model(work.records, summary), run.store.options)
    faults = any(summary.counts["quarantined"] for summary in summaries)
    said = "; ".join(map(counts_of, summaries))
    as_asked = any(summary.stop_code in AS_ASKED for summary in summaries)
    result = summaries[0] if len(summaries) == 1 else OfModels(summaries)
    return ended(result, said, faults=faults, as_asked=as_asked)


def _say_cancelled(summaries: Sequence[RunSummary]) -> None:
    """Say in the run's log, which its page shows, what a cancelled run has done."""
    for summary in summaries:
        get_run_logger().warning("%s Report: %s", summary.stopped, summary.report)


def _of_model(records: Sequence[CaseRecord], summary: RunSummary) -> list[CaseRecord]:
    return [one for one in records if one.model == summary.model]


def _with_progress(work: CaseWork) -> None:
    """Segment all cases, and show on the run's page how far it is."""
    try:
        run = work.run = with_engine(work.run, work.executor)
    except RunStopped as error:
        work.stopped = error
        return
    known = {case.name: found for case in run.cases if (found := run.known_by_all(case))}
    work.take([*chain.from_iterable(known.values())])
    bar = Bar(
        len(run.cases) + len(run.faults), f"Run {run.run_id}", done=len(run.faults) + len(known)
    )
    to_do = [case for case in run.cases if case.name not in known]  # no task run for the others
    expected = expected_seconds(known.values(), len(to_do), cases_at_once(work.executor))
    try:
        with (
            among_others(run) if to_do else nullcontext(run) as work.run,
            called_if_late(run.run_id, expected, lambda: f"{bar.done} of {bar.total} cases done"),
        ):
            for records in _records(work, to_do):
                work.take(records)
                bar.advance()
    except RunStopped as error:
        work.stopped = error


def _records(work: CaseWork, cases: Sequence[Case]) -> Iterator[Tried]:
    """Yield records as they are ready; those of cases that other runs have at the end."""
    yield from _of_cases(work, cases)
    while work.taken and work.stopped is None:
        yield from _of_cases(work, when_free(work.run, work.taken, work.executor.workers))
    if work.stopped is None:
        yield from _segment_lost(work)
    else:
        yield from (work.tried[case.name] for case in work.lost)


def _of_cases(work: CaseWork, cases: Sequence[Case]) -> Iterator[Tried]:
    """Segment cases; only so many are under way as keep workers busy."""
    run, executor, under_way = work.run, work.executor, UnderWay()
    one = segment_one.with_options(
        retries=run.settings.budget.retries, retry_delay_seconds=exponential_backoff(2)
    )
    for case in cases:
        if len(under_way) >= cases_at_once(executor):
            yield from _finished(under_way)
        work.stopped = work.stopped or run.end.reached(executor.workers)
        if work.stopped is not None:
            break
        future = cast(PrefectConcurrentFuture[Tried | None], one.submit(case, work))
        under_way[future.wrapped_future] = future
    while under_way:
        yield from _finished(under_way)


def _segment_lost(work: CaseWork) -> Iterator[Tried]:
    """Try cases whose workers died once more, one by one; yield their records."""
    work.alone = True
    for case in sorted(work.lost, key=lambda one: one.name):
        future = cast(PrefectConcurrentFuture[Tried | None], segment_one.submit(case, work))
        if (records := future.result()) is not None:
            yield records


def _finished(under_way: UnderWay) -> Iterator[Tried]:
    """Wait until some case has ended, and yield its records."""
    ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in ended:
        if (records := under_way.pop(future).result()) is not None:
            yield records


def _outcomes(records: Tried) -> str:
    """Say in a few words what became of a case, by each model if there are several."""
    if len(records) == 1:
        return _outcome(records[0])
    return "; ".join(f"{record.model}: {_outcome(record) or record.status}" for record in records)


def _outcome(record: CaseRecord) -> str:
    """Say in a few words what became of a case."""
    if record.status == "quarantined":
        return f"[{record.code}] {record.message}"
    if record.mask_code:
        return f"no Dice: [{record.mask_code}] {record.mask_message}"
    return "" if record.mean_dice is None else f"mean Dice {record.mean_dice:.3f}"
