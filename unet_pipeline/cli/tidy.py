"""The command ``tidy``: what runs have left behind."""

from collections import Counter

import typer
from rich.text import Text

from unet_pipeline.cli.common import print_json
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json
from unet_pipeline.config import TidySettings
from unet_pipeline.report.quantities import bytes_text


@from_settings
def tidy(settings: TidySettings, as_json: Json = False) -> None:
    """Name old folders of runs and scratch of killed ones; with `--yes`, remove them.

    A run folder goes that is none of the newest (`--keep`), is old (`--older-than`), and holds the
    report of a run and nothing else; never one whose table has numbers that no later table has.
    Label maps and their records stay. With `--flow-runs` also Prefect's old runs go.

    Example: `unet-pipeline tidy s3://results/ --keep 30 --older-than 90d --yes`
    """
    raise typer.Exit(_tidy(settings, as_json))


def _tidy(settings: TidySettings, as_json: bool) -> int:
    from unet_pipeline import console
    from unet_pipeline.jobs.tidy import close_tidy, open_tidy, run_tidy

    with console.waiting("Looking through the runs"):
        run = open_tidy(settings)
    verb = "removed" if settings.yes else "would remove"
    found = []
    for one in run_tidy(run):
        found.append(one)
        print_json(one.as_dict(), when=as_json)
        if not as_json:
            size = f"  {one.files} files, {bytes_text(one.bytes)}"
            size = "" if one.kind == "flow run" else size
            console.out.print(Text(f"{verb}  {one.place}{size}"), soft_wrap=True)
    summary = close_tidy(run, found)
    if as_json:
        print_json(summary.as_dict())
        return 0
    kinds = Counter(one.kind for one in found)
    said = f"{kinds['run']} run folders and {kinds['scratch']} of scratch"
    said += f", {bytes_text(summary.bytes)}"
    said += f", {kinds['flow run']} flow runs" if settings.flow_runs else ""
    kept = ", ".join(f"{count} {reason}" for reason, count in summary.kept.items())
    console.out.print(f"{said}; run folders that stay: {kept or 'none'}", soft_wrap=True)
    if found and not settings.yes:
        console.out.print("Nothing was removed: --yes does it")
    return 0
