"""The comparison of bundles as a Prefect flow: one cohort, paired tests, where they differ."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from unet_pipeline.config import CompareSettings
from unet_pipeline.jobs.compare import open_compare, run_compare
from unet_pipeline_flows.evaluations import evaluate
from unet_pipeline_flows.requests import run_by_hand


@flow(
    name="compare-bundles",
    description="Score several bundles on one cohort, and test them in pairs.",
    validate_parameters=True,
    persist_result=False,
)
def compare_bundles(settings: CompareSettings) -> State[dict[str, Any]]:
    """Check the request, score all entrants, and report."""
    return evaluate(settings, open_compare, run_compare)


if __name__ == "__main__":  # python -m unet_pipeline_flows.compare_bundles SETTINGS.json
    run_by_hand(compare_bundles, CompareSettings)
