"""The cohort run as a Prefect flow: one task run per case, and artifacts to look at.

Tasks pass no volumes: a task calls one function of the package, which puts tile work on the Dask
cluster. The flow runs the same from the Prefect page, from a schedule and as plain Python.
"""

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from time import perf_counter
from typing import Any, cast
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff

from flows.requests import absolute_output, link_to
from unet_pipeline.cluster.backends import open_executor
from unet_pipeline.cluster.executor import Executor, cases_at_once
from unet_pipeline.cohort import (
    TRANSIENT,
    close_run,
    faults_of,
    open_run,
    segment_case,
    with_engine,
)
from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.records import Case, CaseRecord, RunSummary
from unet_pipeline.report.cost import cost_markdown, cost_sentence
from unet_pipeline.report.table import attention_order, markdown_table, table_rows
from unet_pipeline.request import Run

TABLE_ROWS = 500  # an artifact is a page of the web page, not the archive: that is cases.csv
STATE_NAMES = {"done": "Completed", "skipped": "Skipped", "quarantined": "Quarantined"}

UnderWay = dict[Future[Any], PrefectConcurrentFuture[CaseRecord]]


class TransientError(RuntimeError):
    """A fault that may pass: the task run is tried again."""


class CaseWork:
    """What the task runs of one flow run share; opaque to Prefect, which would look into it."""

    def __init__(self, run: Run, executor: Executor) -> None:
        self.run, self.executor = run, executor


@task(
    task_run_name="{case.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_jitter_factor=0.5,
)
def segment_one(case: Case, work: CaseWork) -> State[CaseRecord]:
    """Segment one case. A quarantined case is a result; a fault that may pass is tried again."""
    record = segment_case(work.run, case, work.executor)
    context = TaskRunContext.get()
    tries = context.task_run.run_count if context else 1
    if record.code in TRANSIENT and tries <= work.run.settings.budget.retries:
        raise TransientError(record.message)
    name = "Stopped" if record.code == "cluster_closed" else STATE_NAMES[record.status]
    return Completed(name=name, message=_outcome(record), data=record)


@flow(
    name="segment-cohort",
    description="Segment every volume of a cohort and write label maps, sidecars and a report.",
    task_runner=ThreadPoolTaskRunner(),  # type: ignore[arg-type]
    validate_parameters=True,
    persist_result=False,
)
def segment_cohort(settings: SegmentSettings) -> State[dict[str, Any]]:
    """Check the request, run a task per case, and report."""
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    logger = get_run_logger()
    try:
        absolute_output(settings.output)
        run = open_run(settings)
        logger.info("run %s: %d cases", run.run_id, len(run.cases) + len(run.faults))
        with open_executor(settings.cluster.spec(settings.windows.batch)) as executor:
            begin = perf_counter()
            run = with_engine(run, executor)
            records = _with_progress(run, executor)
            seconds = perf_counter() - begin
    except RequestError as error:
        logger.error("%s", error)  # noqa: TRY400  the sentence says it all
        return Failed(name="WrongRequest", message=str(error), data=error)
    summary = close_run(run, records, seconds=seconds, workers=executor.workers)
    _publish(summary, records)
    return _state(summary)


def _with_progress(run: Run, executor: Executor) -> list[CaseRecord]:
    """Segment all cases, and show on the run's page how far it is."""
    records = faults_of(run)
    total = len(run.cases) + len(records)
    progress = cast(UUID, create_progress_artifact(0.0, description=f"Cases of run {run.run_id}"))
    shown = 0
    for record in _segment(run, executor):
        records.append(record)
        percent = int(100 * len(records) / total)
        if percent > shown:
            update_progress_artifact(progress, progress=percent)
            shown = percent
    return records


def _segment(run: Run, executor: Executor) -> Iterator[CaseRecord]:
    """Yield records as they are ready; only so many cases are under way as keep workers busy."""
    work, under_way = CaseWork(run, executor), UnderWay()
    one = segment_one.with_options(
        retries=run.settings.budget.retries, retry_delay_seconds=exponential_backoff(2)
    )
    for case in run.cases:
        if len(under_way) >= cases_at_once(executor):
            yield from _finished(under_way)
        future = cast(PrefectConcurrentFuture[CaseRecord], one.submit(case, work))
        under_way[future.wrapped_future] = future
    while under_way:
        yield from _finished(under_way)


def _finished(under_way: UnderWay) -> Iterator[CaseRecord]:
    """Wait until some case has ended, and yield its record."""
    ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in ended:
        yield under_way.pop(future).result()


def _outcome(record: CaseRecord) -> str:
    """Say in a few words what became of a case."""
    if record.status == "quarantined":
        return f"[{record.code}] {record.message}"
    return "" if record.mean_dice is None else f"mean Dice {record.mean_dice:.3f}"


def _publish(summary: RunSummary, records: list[CaseRecord]) -> None:
    ordered = attention_order(records)[:TABLE_ROWS]
    create_table_artifact(
        table=table_rows(ordered), key="cases", description=f"Cases of run {summary.run_id}"
    )
    create_markdown_artifact(_headline(summary) + markdown_table(ordered, 50), key="summary")
    create_markdown_artifact(cost_markdown(summary.cost), key="cost")
    report = summary.report
    create_link_artifact(link_to(report), link_text="Report of the run", key="report")


def _headline(summary: RunSummary) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items())
    dice = ", ".join(f"label {label}: {value:.3f}" for label, value in summary.mean_dice.items())
    lines = [f"# {counts}", f"{summary.seconds:.0f} s, {summary.cases_per_minute:.1f} per minute."]
    lines += [f"Mean Dice: {dice}."] if dice else []
    lines += [f"Cost: {cost_sentence(summary.cost)}"] if summary.counts["done"] else []
    return "\n\n".join([*lines, f"Report: `{summary.report}`", ""]) + "\n"


def _state(summary: RunSummary) -> State[dict[str, Any]]:
    """Return a completed state; its name says if some case needs a look."""
    counts, data = summary.counts, summary.as_dict()
    message = ", ".join(f"{count} {status}" for status, count in counts.items())
    name = "CompletedWithFaults" if counts["quarantined"] else "Completed"
    return Completed(name=name, message=message, data=data)


if __name__ == "__main__":  # python -m flows.segment_cohort SETTINGS.json
    try:
        segment_cohort(SegmentSettings.model_validate_json(Path(sys.argv[1]).read_text()))
    except RequestError as wrong:
        sys.exit(str(wrong))
