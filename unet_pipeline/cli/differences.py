"""The command ``differences``: what a new model changed."""

from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from unet_pipeline.cli.common import print_json, until_stopped
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json
from unet_pipeline.config import DifferencesSettings
from unet_pipeline.processes import lasting_imports
from unet_pipeline.report.table import digits, name_of

if TYPE_CHECKING:  # these import numpy and scipy
    from unet_pipeline.evaluation.differences import Agreement, CaseDifference, DifferencesSummary


@from_settings
def differences(settings: DifferencesSettings, as_json: Json = False) -> None:
    """Show what changed between two sets of label maps of the same cases; no masks are needed.

    Both are outputs of `segment`, of two models, versions or settings. Prints for each label Dice
    of the old with the new, the change of its volume with limits of agreement, and in how many
    cases it came or went. With `--output`, a report with pictures and a table. Exit status 1 if
    some case could not be compared.

    Example: `unet-pipeline differences s3://results/v1 s3://results/v2 --output s3://results/v1-v2`
    """
    raise typer.Exit(_run(settings, as_json))


def _run(settings: DifferencesSettings, as_json: bool) -> int:
    from unet_pipeline import console
    from unet_pipeline.errors import CaseError

    with lasting_imports():
        from unet_pipeline.jobs.differences import (
            close_differences,
            open_differences,
            run_differences,
        )

    with console.waiting("Listing both outputs"):
        run = open_differences(settings)
    found: list[CaseDifference | CaseError] = []
    with (
        console.case_progress(len(run.pairs.both), "Comparing") as progress,
        until_stopped() as stop,
    ):
        for one in run_differences(run):
            found.append(one)
            progress.advance(progress.task_ids[0])
            if isinstance(one, CaseError):
                console.say_error(one)
    if stop.why is not None:
        console.say_stopped(str(stop.why))
        stop.go_on()
        return 3
    summary = close_differences(run, found)
    if as_json:
        print_json(summary.as_dict())
    else:
        console.out.print(_table(summary))
        _print_rest(summary)
    return 1 if summary.left_out else 0


def _table(summary: "DifferencesSummary") -> Table:
    table = Table(title=f"{summary.cases} cases, old and new")
    table.add_column("label")
    for heading in ("cases", "Dice", "least", "change", "limits of agreement", "came", "went"):
        table.add_column(heading, justify="right")
    for one in summary.agreements:
        table.add_row(Text(name_of(one.label, summary.labels)), *_cells(one))
    return table


def _cells(one: "Agreement") -> tuple[str, ...]:
    limits = change = ""
    if one.percent is not None:
        change = f"{one.percent:+.1f} %"
        limits = f"{one.low_percent:+.1f} to {one.high_percent:+.1f} %"
    dice = digits(one.mean_dice, 3), digits(one.least_dice, 3)
    return str(one.both), *dice, change, limits, str(one.came), str(one.went)


def _print_rest(summary: "DifferencesSummary") -> None:
    from unet_pipeline import console

    for names, which in ((summary.only_old, "old"), (summary.only_new, "new")):
        if names:
            console.out.print(f"Only {which}  {len(names)} cases")
    for one in summary.changed_most[:3]:
        if one.least_dice < 1:
            line = f"Changed most  {one.case}: Dice {one.least_dice:.3f}"
            console.out.print(Text(line), soft_wrap=True)
    if summary.report:
        console.out.print(Text(f"Report  {summary.report}"), soft_wrap=True)
        console.out.print(Text(f"Table   {summary.table}"), soft_wrap=True)
