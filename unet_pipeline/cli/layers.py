"""The command that looks inside a network: layers."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from unet_pipeline.cli.common import print_json
from unet_pipeline.cli.generated import from_settings_unless
from unet_pipeline.cli.options import Json
from unet_pipeline.config import LayersSettings
from unet_pipeline.config.cohorts import NOWHERE
from unet_pipeline.evaluation.layer_records import LayerRecord, LayersSummary
from unet_pipeline.processes import lasting_imports


@from_settings_unless("list_only", {"images": NOWHERE, "output": NOWHERE})
def layers(
    settings: LayersSettings,
    list_only: Annotated[
        bool,
        typer.Option("--list", help="Show the layers of the bundle, and do no more."),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="With --list: every layer, not only the blocks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look inside a network: what each layer knows, and what is lost without it.

    Fits a linear probe on every block with some cases, scores it on others, replaces every block
    and channel group by its mean, and draws feature maps and the network.

    Example: `unet-pipeline layers s3://scans/ --masks s3://masks/ --model hippocampus --output
    s3://reports/`, or `unet-pipeline layers --model hippocampus --list`
    """
    status = _list(settings, every, as_json) if list_only else _inspect(settings, as_json)
    raise typer.Exit(status)


def _list(settings: LayersSettings, every: bool, as_json: bool) -> int:
    """Show the layers of a bundle; no case is looked at. Return the exit status."""
    from unet_pipeline import console

    with lasting_imports():
        from unet_pipeline.jobs.layers import bundle_layers

    with console.waiting("Running one window"):
        found = [one for one in bundle_layers(settings) if every or one.block]
    for one in found:
        print_json(_listed(one), when=as_json)
    if not as_json:
        console.out.print(_catalog_table(found, settings.model))
    return 0


def _inspect(settings: LayersSettings, as_json: bool) -> int:
    """Look into the layers; return the exit status."""
    from unet_pipeline import console

    with lasting_imports():
        from unet_pipeline.jobs.layers import open_layers, run_layers

    with console.waiting("Running one window, listing the cohort"):
        inspection = open_layers(settings)
    total = settings.fit_cases + settings.score_cases
    with console.case_progress(total, "Looking inside") as progress:

        def advance(what: str, done: int, of: int) -> None:
            progress.update(progress.task_ids[0], completed=done, total=of, last=what)

        found, summary = run_layers(inspection, advance)
    for one in found:
        print_json({**_listed(one), "dice_lost": one.lost, **_probe(one)}, when=as_json)
    if as_json:
        print_json(summary.as_dict())
    else:
        _print(found, summary)
    if summary.stopped:
        console.say_stopped(summary.stopped)
        return 3
    return 1 if summary.faults else 0


def _listed(one: LayerRecord) -> dict[str, Any]:
    names = ("layer", "kind", "block", "side", "shape", "scale", "parameters", "multiply_adds")
    return {name: getattr(one, name) for name in names}


def _probe(one: LayerRecord) -> dict[str, Any]:
    return {"probe_dice": dict(one.probe_dice), "probe_iou": dict(one.probe_iou)}


def _print(found: Sequence[LayerRecord], summary: LayersSummary) -> None:
    from rich.text import Text

    from unet_pipeline.console import out

    for fault in summary.faults:
        out.print(Text("left out ", style="yellow") + Text(fault["message"]), soft_wrap=True)
    out.print(_findings_table(found, summary))
    out.print(summary.advice, highlight=False)
    for name, url in (("Report", summary.report), ("Table ", summary.table)):
        out.print(Text(f"{name}  {url}"), soft_wrap=True)


def _catalog_table(found: Sequence[LayerRecord], model: str) -> Any:
    from rich.table import Table

    from unet_pipeline.report.table import large
    from unet_pipeline.report.u_picture import scale_text

    table = Table(title=f"Layers of {model}", title_justify="left", header_style="bold")
    table.add_column("layer", overflow="fold")
    for name in ("kind", "side"):
        table.add_column(name)
    for name in ("output", "scale", "para-\nmeters", "multiply-\nadds"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(
            one.layer,
            one.kind,
            one.side,
            "x".join(map(str, one.shape)),
            scale_text(one.scale),
            large(one.parameters),
            large(one.multiply_adds),
            style="bold" if one.block and len({o.block for o in found}) > 1 else "",
        )
    return table


def _findings_table(found: Sequence[LayerRecord], summary: LayersSummary) -> Any:
    from rich.table import Table

    from unet_pipeline.report.layers_table import labels_of_layers
    from unet_pipeline.report.table import digits, name_of
    from unet_pipeline.report.u_picture import scale_text

    labels = labels_of_layers(found)
    called = [name_of(label, summary.names) for label in labels]
    title = f"Layers of {summary.model}, mean Dice {digits(summary.mean_dice, 3)} as it is"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("side")
    for name in ("scale", "Dice lost", *(f"probe {one}\nDice" for one in called)):
        table.add_column(name, justify="right")
    for one in found:
        probes = [digits(one.probe_dice.get(label), 3) for label in labels]
        lost = digits(one.lost, 4)
        table.add_row(one.layer, one.side, scale_text(one.scale), lost, *probes)
    return table
