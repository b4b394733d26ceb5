"""The comparison of bundles as a Prefect flow: one cohort, paired tests, where they differ."""

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
from unet_pipeline.config import CompareSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.selection.compare import open_compare, run_compare


@flow(
    name="compare-bundles",
    description="Score several bundles on one cohort, and test them in pairs.",
    validate_parameters=True,
    persist_result=False,
)
def compare_bundles(settings: CompareSettings) -> State[dict[str, Any]]:
    """Check the request, score all entrants, and report."""
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    logger = get_run_logger()
    try:
        absolute_output(settings.output)
        run = open_compare(settings)
        logger.info("run %s: %d cases, %d entrants", run.run_id, len(run.cases), len(run.entrants))
        advance = progress_of(run.work, f"Label maps of run {run.run_id}")
        with open_executor(settings.cluster.kind, settings.cluster.workers) as executor:
            evaluation = run_compare(run, executor, advance)
    except RequestError as error:
        logger.error("%s", error)  # noqa: TRY400  the sentence says it all
        return Failed(name="WrongRequest", message=str(error), data=error)
    publish(evaluation)
    return state_of(evaluation)


if __name__ == "__main__":  # python -m flows.compare_bundles SETTINGS.json
    try:
        compare_bundles(CompareSettings.model_validate_json(Path(sys.argv[1]).read_text()))
    except RequestError as wrong:
        sys.exit(str(wrong))
