"""The comparison of bundles as a Prefect flow: one cohort, paired tests, where they differ."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.evaluations import evaluate
from flows.requests import run_by_hand
from unet_pipeline.config import CompareSettings
from unet_pipeline.selection.compare import open_compare, run_compare


@flow(
    name="compare-bundles",
    description="Score several bundles on one cohort, and test them in pairs.",
    validate_parameters=True,
    persist_result=False,
)
def compare_bundles(settings: CompareSettings) -> State[dict[str, Any]]:
    """Check the request, score all entrants, and report."""
    return evaluate(settings, open_compare, run_compare)


if __name__ == "__main__":  # python -m flows.compare_bundles SETTINGS.json
    run_by_hand(compare_bundles, CompareSettings)
