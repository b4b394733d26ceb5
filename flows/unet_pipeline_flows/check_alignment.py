"""The audit of a cohort as a Prefect flow: a table of verdicts and a report of the doubtful pairs.

The flow is thin: the package checks, many cases at once; the page shows how far it is.
"""

import logging
from time import perf_counter
from typing import Any, cast
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State
from prefect.states import Completed

from unet_pipeline.cluster.backends import open_executor
from unet_pipeline.cluster.executor import Executor
from unet_pipeline.config import CheckSettings
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.jobs.check import CheckRun, close_check, open_check, run_check
from unet_pipeline.records import CheckRecord, CheckSummary
from unet_pipeline.report.check_table import attention_order, check_markdown, check_rows
from unet_pipeline.report.table import as_code
from unet_pipeline_flows.requests import (
    cancellable,
    check_request,
    failed,
    link_to,
    run_by_hand,
    stopped,
)

TABLE_ROWS = 500  # an artifact is a page of the web page, not the archive: that is check.csv


@flow(
    name="check-alignment",
    description="Check the geometry of a cohort's images, and whether masks lie on them.",
    validate_parameters=True,
    persist_result=False,
)
def check_alignment(settings: CheckSettings) -> State[dict[str, Any]]:
    """Check the request, then every case, and report."""
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    logger = get_run_logger()
    try:
        check_request(settings)
        audit = open_check(settings)
        logger.info("audit %s: %d cases", audit.run_id, len(audit.cases) + len(audit.faults))
        with open_executor(settings.cluster.spec()) as executor:
            records: list[CheckRecord] = []
            begin = perf_counter()

            def close(stopped: RunStopped | None) -> CheckSummary:
                seconds = perf_counter() - begin
                return close_check(audit, records, seconds=seconds, stopped=stopped)

            with cancellable(close):
                summary = close(_with_progress(audit, executor, records))
    except PipelineError as error:
        return failed(error)
    _publish(summary, records)
    return _state(summary)


def _with_progress(
    audit: CheckRun, executor: Executor, records: list[CheckRecord]
) -> RunStopped | None:
    """Check all cases, add their records, show how far it is, and return what stopped it."""
    total = len(audit.cases) + len(audit.faults)
    progress = cast(
        UUID, create_progress_artifact(0.0, description=f"Cases of audit {audit.run_id}")
    )
    shown = 0
    try:
        for record in run_check(audit, executor):
            records.append(record)
            percent = int(100 * len(records) / total)
            if percent > shown:
                update_progress_artifact(progress, progress=percent)
                shown = percent
    except RunStopped as error:
        return error
    return None


def _publish(summary: CheckSummary, records: list[CheckRecord]) -> None:
    ordered = attention_order(records)
    create_table_artifact(
        table=check_rows(ordered[:TABLE_ROWS]),
        key="alignment",
        description=f"Cases of audit {summary.run_id}",
    )
    create_markdown_artifact(_headline(summary) + check_markdown(ordered, 50), key="summary")
    if summary.report:
        report = summary.report
        create_link_artifact(link_to(report), link_text="Report of the audit", key="report")


def _headline(summary: CheckSummary) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in summary.counts.items())
    megabytes = summary.bytes_read / 1e6
    lines = [
        f"# {counts}",
        f"{summary.seconds:.0f} s, {summary.cases_per_second:.1f} cases per second, "
        f"{megabytes:,.1f} MB read.",
    ]
    lines += [f"Report: {as_code(summary.report)}"] if summary.report else []
    return "\n\n".join([*lines, ""]) + "\n"


def _state(summary: CheckSummary) -> State[dict[str, Any]]:
    """Return a completed state, whose name says if some case needs a look; or what stopped it."""
    if summary.stopped:
        return stopped(summary.stopped, summary.report)
    message = ", ".join(f"{count} {verdict}" for verdict, count in summary.counts.items())
    calm = not summary.counts["fail"] and not summary.counts["warn"]
    name = "Completed" if calm else "CompletedWithFaults"
    return Completed(name=name, message=message, data=summary.as_dict())


if __name__ == "__main__":  # python -m unet_pipeline_flows.check_alignment SETTINGS.json
    run_by_hand(check_alignment, CheckSettings)
