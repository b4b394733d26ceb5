"""The comparison of bundles as a Prefect flow: one cohort, paired tests, where they differ."""

from typing import Annotated

from prefect import flow

from unet_pipeline.config import CompareSettings
from unet_pipeline.config.form import AsForm
from unet_pipeline.processes import lasting_imports
from unet_pipeline_flows.lifecycle import End, run_by_hand, run_checked
from unet_pipeline_flows.scoring import score


@flow(
    name="compare",
    description="Score several bundles on one cohort, and test them in pairs.",
    validate_parameters=False,  # lifecycle.run_checked does, and says it in one sentence
    persist_result=False,
)
def compare(settings: Annotated[CompareSettings, AsForm(CompareSettings)]) -> End:
    """Check the request, score all candidates, and report."""
    return run_checked(settings, _compare, CompareSettings)


def _compare(settings: CompareSettings) -> End:
    with lasting_imports():  # of networks, too
        from unet_pipeline.jobs.compare import open_compare, run_compare

    return score(settings, open_compare, run_compare)


if __name__ == "__main__":  # python -m unet_pipeline_flows.compare SETTINGS.json
    run_by_hand(compare, CompareSettings)
