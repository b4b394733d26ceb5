"""The check of a cohort as a Prefect flow: a table of verdicts, a report of the doubtful pairs.

The flow is thin: the package checks, many cases at once; the page shows how far it is.
"""

from time import perf_counter
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import CheckSettings
from unet_pipeline.config.form import AsForm
from unet_pipeline.errors import RunStopped
from unet_pipeline.processes import lasting_imports
from unet_pipeline.records import CheckRecord, CheckSummary
from unet_pipeline.report.check_table import attention_order, check_markdown, check_rows
from unet_pipeline.report.table import as_code
from unet_pipeline.storage.filesystems import StorageOptions
from unet_pipeline_flows.away import await_server
from unet_pipeline_flows.lifecycle import End, cancellable, ended, run_by_hand, run_checked
from unet_pipeline_flows.links import show_link
from unet_pipeline_flows.page import TABLE_ROWS, Bar


@flow(
    name="check",
    description="Check the geometry of a cohort's images, and whether masks lie on them.",
    validate_parameters=False,  # lifecycle.run_checked does, and says it in one sentence
    persist_result=False,
)
def check(settings: Annotated[CheckSettings, AsForm(CheckSettings)]) -> End:
    """Check the request, then every case, and report."""
    return run_checked(settings, _check, CheckSettings)


def _check(settings: CheckSettings) -> End:
    with lasting_imports():  # of networks, too
        from unet_pipeline.jobs.check import close_check, open_check, run_check

    run = open_check(settings)
    total = len(run.cases) + len(run.faults)
    get_run_logger().info("check %s: %d cases", run.run_id, total)
    records: list[CheckRecord] = []
    begin = perf_counter()

    def close(stopped: RunStopped | None) -> CheckSummary:
        return close_check(run, records, seconds=perf_counter() - begin, stopped=stopped)

    with open_executor(settings.cluster.spec()) as executor, cancellable(close):
        bar, why = Bar(total, f"Check {run.run_id}"), None
        try:
            for record in run_check(run, executor):
                records.append(record)
                bar.advance()
        except RunStopped as error:
            why = error
        summary = close(why)
    _publish(summary, records, run.store.options)
    calm = not summary.counts["fail"] and not summary.counts["warn"]
    return ended(summary, _counts(summary), faults=not calm)


def _publish(summary: CheckSummary, records: list[CheckRecord], options: StorageOptions) -> None:
    await_server()
    ordered = attention_order(records)
    create_table_artifact(
        table=check_rows(ordered[:TABLE_ROWS]),
        key="alignment",
        description=f"Cases of check {summary.run_id}",
    )
    create_markdown_artifact(_headline(summary) + check_markdown(ordered, 50), key="summary")
    if summary.report:
        show_link(summary.report, "Report of the check", options)


def _headline(summary: CheckSummary) -> str:
    megabytes = summary.bytes_read / 1e6
    lines = [
        f"# {_counts(summary)}",
        f"{summary.seconds:.0f} s, {summary.cases_per_second:.1f} cases per second, "
        f"{megabytes:,.1f} MB read.",
    ]
    lines += [f"Report: {as_code(summary.report)}"] if summary.report else []
    return "\n\n".join([*lines, ""]) + "\n"


def _counts(summary: CheckSummary) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in summary.counts.items())


if __name__ == "__main__":  # python -m unet_pipeline_flows.check SETTINGS.json
    run_by_hand(check, CheckSettings)
