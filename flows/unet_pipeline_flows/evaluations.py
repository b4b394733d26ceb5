"""What the flows that score models share: progress, artifacts and the final state."""

import base64
import logging
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
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
from unet_pipeline.errors import PipelineError
from unet_pipeline.evaluation.standing import Evaluation
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.evaluation_table import evaluation_markdown, evaluation_rows, headline
from unet_pipeline.report.speed_plot import speed_plot
from unet_pipeline.report.table import as_code
from unet_pipeline_flows.requests import cancellable, check_request, failed, link_to, stopped

OnCase = Callable[[str, CaseRecord], None]
Run = Callable[[Any, Executor, OnCase], Evaluation]


def progress_of(total: int, description: str) -> OnCase:
    """Return what to call with each label map, so that the run's page shows how far it is."""
    progress = cast(UUID, create_progress_artifact(0.0, description=description))
    done = shown = 0

    def advance(_entrant: str, _record: CaseRecord) -> None:
        nonlocal done, shown
        done += 1
        percent = min(int(100 * done / total), 100)
        if percent > shown:
            update_progress_artifact(progress, progress=percent)
            shown = percent

    return advance


def publish(evaluation: Evaluation) -> None:
    """Show the table, the summary, the picture and the report on the run's page."""
    kind, report = evaluation.kind, evaluation.report
    create_table_artifact(
        table=evaluation_rows(evaluation), key=kind, description=headline(evaluation)
    )
    create_markdown_artifact(
        evaluation_markdown(evaluation) + f"\nReport: {as_code(report)}\n", key="summary"
    )
    plot = speed_plot(evaluation)
    if plot is not None:
        picture = "data:image/png;base64," + base64.b64encode(plot).decode("ascii")
        create_image_artifact(picture, key="speed", description="Speed against Dice")
    create_link_artifact(link_to(report), link_text="Report", key="report")


def evaluate(settings: Any, open_run: Callable[[Any], Any], run: Run) -> State[dict[str, Any]]:
    """Check a request, score all entrants, and report."""
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    logger = get_run_logger()
    try:
        check_request(settings)
        opened = open_run(settings)
        cases, entrants = len(opened.cases), len(opened.entrants)
        logger.info("run %s: %d cases, %d entrants", opened.run_id, cases, entrants)
        advance = progress_of(opened.work, f"Label maps of run {opened.run_id}")
        spec = settings.cluster.spec(settings.windows.batch)
        with open_executor(spec) as executor, cancellable():
            evaluation = run(opened, executor, advance)
    except PipelineError as error:
        return failed(error)
    publish(evaluation)
    if evaluation.stopped:
        return stopped(evaluation.stopped, evaluation.report)
    return state_of(evaluation)


def state_of(evaluation: Evaluation) -> State[dict[str, Any]]:
    """Return a completed state; its name says if some case was left out."""
    name = "CompletedWithFaults" if evaluation.left_out else "Completed"
    return Completed(name=name, message=headline(evaluation), data=evaluation.as_dict())
