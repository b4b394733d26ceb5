"""The choice of a depth as a Prefect flow: every depth scored, the pruned bundle written."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from unet_pipeline.config import DepthsSettings
from unet_pipeline.jobs.depths import open_depths, run_depths
from unet_pipeline_flows.evaluations import evaluate
from unet_pipeline_flows.requests import run_by_hand


@flow(
    name="select-depth",
    description="Score every depth of a nested U-Net on a validation cohort, and choose one.",
    validate_parameters=True,
    persist_result=False,
)
def select_depth(settings: DepthsSettings) -> State[dict[str, Any]]:
    """Check the request, score all entrants, and report."""
    return evaluate(settings, open_depths, run_depths)


if __name__ == "__main__":  # python -m unet_pipeline_flows.select_depth SETTINGS.json
    run_by_hand(select_depth, DepthsSettings)
