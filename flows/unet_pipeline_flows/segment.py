"""The cohort run as a Prefect flow: one task run per case, and artifacts to look at.

Tasks pass no volumes: a task calls one function of the package, which puts tile work on the Dask
cluster. The flow runs the same from the Prefect page, from a schedule and as plain Python.
"""

from typing import Annotated

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from unet_pipeline.config import SegmentSettings
from unet_pipeline.config.form import AsForm
from unet_pipeline.processes import lasting_imports
from unet_pipeline_flows.lifecycle import End, run_by_hand, run_checked


@flow(
    name="segment",
    description="Segment every volume of a cohort and write label maps, sidecars and a report.",
    task_runner=ThreadPoolTaskRunner(),  # type: ignore[arg-type]
    validate_parameters=False,  # lifecycle.run_checked does, and says it in one sentence
    persist_result=False,
)
def segment(settings: Annotated[SegmentSettings, AsForm(SegmentSettings)]) -> End:
    """Check the request, run a task per case, and report."""
    return run_checked(settings, _segment, SegmentSettings)


def _segment(settings: SegmentSettings) -> End:
    with lasting_imports():  # of networks, too
        from unet_pipeline_flows.segment_cases import segment_cases

    return segment_cases(settings)


if __name__ == "__main__":  # python -m unet_pipeline_flows.segment SETTINGS.json
    run_by_hand(segment, SegmentSettings)
