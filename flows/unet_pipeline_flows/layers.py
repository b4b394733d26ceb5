"""A look inside a network as a Prefect flow: probes and replaced layers, on a cohort with masks."""

from collections.abc import Sequence
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from unet_pipeline.config import LayersSettings
from unet_pipeline.config.form import AsForm
from unet_pipeline.evaluation.layer_records import LayerRecord, LayersSummary
from unet_pipeline.processes import lasting_imports
from unet_pipeline.report.layers_table import layers_markdown, layers_rows
from unet_pipeline.report.table import as_code, escape_markdown
from unet_pipeline.storage.store import Store
from unet_pipeline_flows.away import await_server
from unet_pipeline_flows.lifecycle import End, ended, run_by_hand, run_checked
from unet_pipeline_flows.links import show_link, show_picture
from unet_pipeline_flows.page import Bar


@flow(
    name="layers",
    description="Say what each layer of a network knows, and what is lost without it.",
    validate_parameters=False,  # lifecycle.run_checked does, and says it in one sentence
    persist_result=False,
)
def layers(settings: Annotated[LayersSettings, AsForm(LayersSettings)]) -> End:
    """Check the request, look into the layers, and report."""
    return run_checked(settings, _layers, LayersSettings)


def _layers(settings: LayersSettings) -> End:
    with lasting_imports():  # of networks, too
        from unet_pipeline.jobs.layers import open_layers, run_layers

    run = open_layers(settings)
    get_run_logger().info("run %s: %d layers", run.run_id, len(run.chosen))
    bar = Bar(100, f"Run {run.run_id}", unit="%")
    found, summary = run_layers(run, lambda _, done, of: bar.move_to(100 * done // of))
    where = Store() if summary.stopped else run.store
    _publish(found, summary, where.read(summary.picture))
    show_link(summary.report, "Report", run.store.options)
    return ended(summary, _headline(summary), faults=bool(summary.faults))


def _publish(found: Sequence[LayerRecord], summary: LayersSummary, picture: bytes) -> None:
    await_server()
    create_table_artifact(
        table=layers_rows(found, summary.names),
        key="layers",
        description=f"Layers of {escape_markdown(summary.model)}",
    )
    create_markdown_artifact(_markdown(found, summary), key="summary")
    show_picture(picture, "network", "Dice lost without each block", "svg+xml")


def _headline(summary: LayersSummary) -> str:
    left_out = f", {len(summary.faults)} left out" if summary.faults else ""
    return f"Fitted on {len(summary.fitted)}, scored {len(summary.scored)}{left_out}"


def _markdown(found: Sequence[LayerRecord], summary: LayersSummary) -> str:
    parts = [f"# {_headline(summary)}", escape_markdown(summary.advice), layers_markdown(found)]
    return "\n\n".join([*parts, f"Report: {as_code(summary.report)}", ""])


if __name__ == "__main__":  # python -m unet_pipeline_flows.layers SETTINGS.json
    run_by_hand(layers, LayersSettings)
