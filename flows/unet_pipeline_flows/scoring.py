"""What the flows that score models share: progress, artifacts and the final state."""

from collections.abc import Callable
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from unet_pipeline.cluster.executor import Executor
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.evaluation.records import Evaluation
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.evaluation_table import evaluation_markdown, evaluation_rows, headline
from unet_pipeline.report.speed_plot import speed_plot
from unet_pipeline.report.table import as_code
from unet_pipeline_flows.away import await_server
from unet_pipeline_flows.lifecycle import End, cancellable, ended
from unet_pipeline_flows.links import show_link, show_picture
from unet_pipeline_flows.page import Bar

OnCase = Callable[[str, CaseRecord], None]
Run = Callable[[Any, Executor, OnCase], Evaluation]


def score(settings: Any, open_run: Callable[[Any], Any], run: Run) -> End:
    """Score all candidates, and report."""
    opened = open_run(settings)
    cases, candidates = len(opened.cases), len(opened.candidates)
    get_run_logger().info("run %s: %d cases, %d candidates", opened.run_id, cases, candidates)
    bar = Bar(opened.work, f"Run {opened.run_id}", unit="label maps")
    spec = settings.cluster.spec(settings.windows.batch)
    with open_executor(spec) as executor, cancellable():
        evaluation = run(opened, executor, lambda *_: bar.advance())
    _publish(evaluation)
    show_link(evaluation.report, "Report", opened.store.options)
    return ended(evaluation, headline(evaluation), faults=bool(evaluation.left_out))


def _publish(evaluation: Evaluation) -> None:
    """Show the table, the summary, the picture and the report on the run's page."""
    await_server()
    kind, report = evaluation.kind, evaluation.report
    create_table_artifact(
        table=evaluation_rows(evaluation), key=kind, description=headline(evaluation)
    )
    create_markdown_artifact(
        evaluation_markdown(evaluation) + f"\nReport: {as_code(report)}\n", key="summary"
    )
    plot = speed_plot(evaluation)
    if plot is not None:
        show_picture(plot, "speed", "Speed against Dice")
