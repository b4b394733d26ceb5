"""The cases of a run as task runs: what the flow ``segment`` does once its request is checked."""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from time import perf_counter
from typing import Any, cast

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from unet_pipeline import stopping
from unet_pipeline.cluster.backends import open_executor
from unet_pipeline.cluster.executor import Executor, cases_at_once
from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RunStopped
from unet_pipeline.jobs.segment import (
    LOST,
    TRANSIENT,
    close_segment,
    faults_of,
    lost_cases,
    open_segment,
    segment_alone,
    segment_case,
    with_engine,
)
from unet_pipeline.records import Case, CaseRecord, RunSummary
from unet_pipeline.report.cost import cost_markdown, cost_sentence
from unet_pipeline.report.table import (
    as_code,
    attention_order,
    dice_sentence,
    escape_markdown,
    markdown_table,
    table_rows,
)
from unet_pipeline.request import Run
from unet_pipeline_flows.lifecycle import End, cancellable, ended
from unet_pipeline_flows.page import TABLE_ROWS, Bar, show_link

UNFINISHED = {"cluster_closed", stopping.CODE}  # codes of cases that a run's end cut short
STATE_NAMES = {"done": "Completed", "skipped": "Skipped", "quarantined": "Quarantined"}

UnderWay = dict[Future[Any], PrefectConcurrentFuture[CaseRecord | None]]


class TransientError(RuntimeError):
    """A fault that may pass: the task run is tried again."""


class CaseWork:
    """What the task runs of one flow run share; opaque to Prefect, which would look into it."""

    def __init__(self, run: Run, executor: Executor) -> None:
        self.run, self.executor = run, executor
        self.records = faults_of(run)
        self.stopped: RunStopped | None = None  # by a fault that concerns all cases
        self.segment = segment_case
        self.lost: list[CaseRecord] = []  # whose workers died: tried once more, alone
        self.begin = perf_counter()

    def close(self, stopped: RunStopped | None) -> RunSummary:
        """Write table and report of what was done."""
        return close_segment(
            self.run,
            self.records,
            seconds=perf_counter() - self.begin,
            workers=self.executor.workers,
            stopped=stopped,
        )


@task(
    task_run_name="{case.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_jitter_factor=0.5,
)
def segment_one(case: Case, work: CaseWork) -> State[CaseRecord | None]:
    """Segment one case. A quarantined case is a result; a fault that may pass is tried again."""
    if work.stopped is not None:
        return Completed(name="Stopped", message="not begun")
    try:
        record = work.segment(work.run, case, work.executor)
    except RunStopped as error:
        work.stopped = error
        return Completed(name="Stopped", message=str(error))
    context = TaskRunContext.get()
    tries = context.task_run.run_count if context else 1
    if record.code in TRANSIENT and tries <= work.run.settings.budget.retries:
        raise TransientError(record.message)
    if record.code == LOST and work.segment is segment_case:
        work.lost.append(record)
        return Completed(name="TriedAgain", message=_outcome(record))
    name = "Stopped" if record.code in UNFINISHED else STATE_NAMES[record.status]
    return Completed(name=name, message=_outcome(record), data=record)


def segment_cases(settings: SegmentSettings) -> End:
    """Run a task per case, and report."""
    run = open_segment(settings)
    get_run_logger().info("run %s: %d cases", run.run_id, len(run.cases) + len(run.faults))
    with open_executor(settings.cluster.spec(settings.windows.batch)) as executor:
        work = CaseWork(run, executor)
        with cancellable(work.close):
            _with_progress(work)
            summary = work.close(work.stopped)
    _publish(summary, work.records)
    return ended(summary, _counts(summary), faults=bool(summary.counts["quarantined"]))


def _with_progress(work: CaseWork) -> None:
    """Segment all cases, and show on the run's page how far it is."""
    try:
        run = work.run = with_engine(work.run, work.executor)
    except RunStopped as error:
        work.stopped = error
        return
    bar = Bar(len(run.cases) + len(work.records), f"Cases of run {run.run_id}")
    bar.move_to(len(work.records))
    for record in _records(work):
        work.records.append(record)
        bar.advance()


def _records(work: CaseWork) -> Iterator[CaseRecord]:
    """Yield records as they are ready; only so many cases are under way as keep workers busy."""
    run, executor, under_way = work.run, work.executor, UnderWay()
    one = segment_one.with_options(
        retries=run.settings.budget.retries, retry_delay_seconds=exponential_backoff(2)
    )
    for case in run.cases:
        if len(under_way) >= cases_at_once(executor):
            yield from _finished(under_way)
        if work.stopped is not None:
            break
        future = cast(PrefectConcurrentFuture[CaseRecord | None], one.submit(case, work))
        under_way[future.wrapped_future] = future
    while under_way:
        yield from _finished(under_way)
    if work.stopped is None:
        yield from _segment_lost(work)
    else:
        yield from work.lost


def _segment_lost(work: CaseWork) -> Iterator[CaseRecord]:
    """Try cases whose workers died once more, one by one; yield their records."""
    work.segment = segment_alone
    for case in lost_cases(work.run, work.lost):
        future = cast(PrefectConcurrentFuture[CaseRecord | None], segment_one.submit(case, work))
        record = future.result()
        if record is not None:
            yield record


def _finished(under_way: UnderWay) -> Iterator[CaseRecord]:
    """Wait until some case has ended, and yield its record."""
    ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in ended:
        record = under_way.pop(future).result()
        if record is not None:
            yield record


def _outcome(record: CaseRecord) -> str:
    """Say in a few words what became of a case."""
    if record.status == "quarantined":
        return f"[{record.code}] {record.message}"
    if record.mask_code:
        return f"no Dice: [{record.mask_code}] {record.mask_message}"
    return "" if record.mean_dice is None else f"mean Dice {record.mean_dice:.3f}"


def _publish(summary: RunSummary, records: list[CaseRecord]) -> None:
    ordered = attention_order(records)[:TABLE_ROWS]
    create_table_artifact(
        table=table_rows(ordered, summary.labels),
        key="cases",
        description=f"Cases of run {summary.run_id}",
    )
    create_markdown_artifact(_headline(summary) + markdown_table(ordered, 50), key="summary")
    create_markdown_artifact(cost_markdown(summary.cost), key="cost")
    show_link(summary.report, "Report of the run")


def _headline(summary: RunSummary) -> str:
    dice = escape_markdown(dice_sentence(summary.mean_dice, summary.labels))
    lines = [f"# {_counts(summary)}"]
    lines += [f"{summary.seconds:.0f} s, {summary.cases_per_minute:.1f} per minute."]
    lines += [f"Mean Dice: {dice}."] if dice else []
    if summary.mask_faults:
        codes = ", ".join(f"{count} `{code}`" for code, count in summary.mask_faults.items())
        lines.append(f"No Dice: {codes}.")
    if summary.to_review:
        lines.append(f"{summary.to_review} label maps are unlike the others: see the report.")
    lines += [f"Cost: {cost_sentence(summary.cost)}"] if summary.counts["done"] else []
    return "\n\n".join([*lines, f"Report: {as_code(summary.report)}", ""]) + "\n"


def _counts(summary: RunSummary) -> str:
    return ", ".join(f"{count} {status}" for status, count in summary.counts.items())
