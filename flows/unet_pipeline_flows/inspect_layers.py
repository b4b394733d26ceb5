"""A look inside a network as a Prefect flow: probes and replaced layers, on a cohort with masks."""

import base64
import logging
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from prefect import flow, get_run_logger
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

from unet_pipeline.config import LayersSettings
from unet_pipeline.errors import PipelineError
from unet_pipeline.evaluation.layer_records import LayerRecord, LayersSummary
from unet_pipeline.jobs.layers import run_layers
from unet_pipeline.layer_analysis.request import LayersRun, open_layers
from unet_pipeline.report.layers_table import layers_markdown, layers_rows
from unet_pipeline.report.table import as_code, escape_markdown
from unet_pipeline.storage.store import Store
from unet_pipeline_flows.requests import check_request, failed, link_to, run_by_hand, stopped


@flow(
    name="inspect-layers",
    description="Say what each layer of a network knows, and what is lost without it.",
    validate_parameters=True,
    persist_result=False,
)
def inspect_layers(settings: LayersSettings) -> State[dict[str, Any]]:
    """Check the request, look into the layers, and report."""
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    logger = get_run_logger()
    try:
        check_request(settings)
        inspection = open_layers(settings)
        logger.info("inspection %s: %d layers", inspection.run_id, len(inspection.chosen))
        layers, summary = _with_progress(inspection)
        where = Store() if summary.stopped else inspection.store
        picture = where.read(summary.picture)
    except PipelineError as error:
        return failed(error)
    _publish(layers, summary, picture)
    if summary.stopped:
        return stopped(summary.stopped, summary.report)
    name = "CompletedWithFaults" if summary.faults else "Completed"
    return Completed(name=name, message=_headline(summary), data=summary.as_dict())


def _with_progress(inspection: LayersRun) -> tuple[list[LayerRecord], LayersSummary]:
    """Look into the layers, and show on the run's page how far it is."""
    description = f"Cases of inspection {inspection.run_id}"
    progress = cast(UUID, create_progress_artifact(0.0, description=description))
    return run_layers(
        inspection,
        lambda _, done, of: cast(
            None, update_progress_artifact(progress, progress=100 * done / of)
        ),
    )


def _publish(layers: Sequence[LayerRecord], summary: LayersSummary, picture: bytes) -> None:
    create_table_artifact(
        table=layers_rows(layers),
        key="layers",
        description=f"Layers of {escape_markdown(summary.model)}",
    )
    create_markdown_artifact(_markdown(layers, summary), key="summary")
    svg = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode('ascii')}"
    create_image_artifact(svg, key="network", description="Dice lost without each block")
    report = summary.report
    create_link_artifact(link_to(report), link_text="Report of the inspection", key="report")


def _headline(summary: LayersSummary) -> str:
    left_out = f", {len(summary.faults)} left out" if summary.faults else ""
    return f"Fitted on {len(summary.fitted)}, scored {len(summary.scored)}{left_out}"


def _markdown(layers: Sequence[LayerRecord], summary: LayersSummary) -> str:
    parts = [f"# {_headline(summary)}", escape_markdown(summary.advice), layers_markdown(layers)]
    return "\n\n".join([*parts, f"Report: {as_code(summary.report)}", ""])


if __name__ == "__main__":  # python -m unet_pipeline_flows.run_layers SETTINGS.json
    run_by_hand(inspect_layers, LayersSettings)
