"""The choice of a depth as a Prefect flow: every depth scored, the pruned bundle written."""

from typing import Annotated

from prefect import flow

from unet_pipeline.config import DepthsSettings
from unet_pipeline.config.form import AsForm
from unet_pipeline.processes import lasting_imports
from unet_pipeline_flows.lifecycle import End, run_by_hand, run_checked
from unet_pipeline_flows.scoring import score


@flow(
    name="depths",
    description="Score every depth of a nested U-Net on a validation cohort, and choose one.",
    validate_parameters=False,  # lifecycle.run_checked does, and says it in one sentence
    persist_result=False,
)
def depths(settings: Annotated[DepthsSettings, AsForm(DepthsSettings)]) -> End:
    """Check the request, score all candidates, and report."""
    return run_checked(settings, _depths, DepthsSettings)


def _depths(settings: DepthsSettings) -> End:
    with lasting_imports():  # of networks, too
        from unet_pipeline.jobs.depths import open_depths, run_depths

    return score(settings, open_depths, run_depths)


if __name__ == "__main__":  # python -m unet_pipeline_flows.depths SETTINGS.json
    run_by_hand(depths, DepthsSettings)
