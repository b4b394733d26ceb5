"""The choice of a depth as a Prefect flow: every depth scored, the pruned bundle written."""

import logging
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.evaluations import progress_of, publish, state_of
from flows.requests import absolute_output
from unet_pipeline.cluster.backends import open_executor
from unet_pipeline.config import DepthsSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.selection.depths import open_depths, run_depths


@flow(
    name="select-depth",
    description="Score every depth of a nested U-Net on a validation cohort, and choose one.",
    validate_parameters=True,
    persist_result=False,
)
def select_depth(settings: DepthsSettings) -> State[dict[str, Any]]:
    """Check the request, score all entrants, and report."""
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    logger = get_run_logger()
    try:
        absolute_output(settings.output)
        run = open_depths(settings)
        logger.info("run %s: %d cases, %d entrants", run.run_id, len(run.cases), len(run.entrants))
        advance = progress_of(run.work, f"Label maps of run {run.run_id}")
        with open_executor(settings.cluster.kind, settings.cluster.workers) as executor:
            evaluation = run_depths(run, executor, advance)
    except RequestError as error:
        logger.error("%s", error)  # noqa: TRY400  the sentence says it all
        return Failed(name="WrongRequest", message=str(error), data=error)
    publish(evaluation)
    return state_of(evaluation)


if __name__ == "__main__":  # python -m flows.select_depth SETTINGS.json
    try:
        select_depth(DepthsSettings.model_validate_json(Path(sys.argv[1]).read_text()))
    except RequestError as wrong:
        sys.exit(str(wrong))
