"""The command ``statistics``: numbers about label maps that exist already."""

from time import perf_counter
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from unet_pipeline.cli.common import print_json, until_stopped
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json
from unet_pipeline.config import StatisticsSettings
from unet_pipeline.processes import lasting_imports
from unet_pipeline.report.table import digits, name_of

if TYPE_CHECKING:  # these import numpy and scipy
    from unet_pipeline.jobs.statistics import StatisticsSummary

_ROWS, _FIRST = 60, 5  # labels, and label maps to look at, that are printed


@from_settings
def statistics(settings: StatisticsSettings, as_json: Json = False) -> None:
    """Measure label maps that exist already, and say which of them want a look.

    Whoever made them: a folder of masks, nnU-Net's `labelsTr`, TotalSegmentator's `segmentations`,
    an output of `segment`. Prints for each label in how many label maps it is, its volume, and in
    how many it is in several parts or cut by the field of view. From 20 label maps on, those that
    are unlike the others are named, worst first, with the reasons. With `--images` the values under
    each label are measured, too; with `--output` there are tables and a report. Exit status 1 if
    some label map could not be measured.

    Example: `unet-pipeline statistics labelsTr/ --images imagesTr/ --output s3://results/masks`
    """
    raise typer.Exit(_run(settings, as_json))


def _run(settings: StatisticsSettings, as_json: bool) -> int:
    from unet_pipeline import console

    with lasting_imports():
        from unet_pipeline.cluster.starting import open_executor
        from unet_pipeline.jobs.statistics import close_statistics, open_statistics, run_statistics

    with console.waiting("Listing the label maps"):
        run = open_statistics(settings)
    records, begin = [], perf_counter()
    with (
        open_executor(settings.cluster.spec()) as executor,
        console.case_progress(run.total, "Measuring") as progress,
        until_stopped() as stop,
    ):
        for record in run_statistics(run, executor):
            records.append(record)
            console.advance(progress, record)
            print_json(record.as_dict(), when=as_json)
    summary = close_statistics(run, records, stopped=stop.why)
    if as_json:
        print_json(summary.as_dict())
    else:
        console.out.print(_table(summary))
        _print_reviews(summary)
        _print_rest(summary, perf_counter() - begin)
    if summary.stopped:
        console.say_stopped(summary.stopped)
        stop.go_on()
        return 3
    return 1 if summary.counts["quarantined"] else 0


def _table(summary: "StatisticsSummary") -> Table:
    measured = summary.counts["done"] + summary.counts["skipped"]
    table = Table(title=f"{measured} label maps", title_justify="left")
    table.add_column("label")
    for heading in ("label maps", "median, ml", "5 %", "95 %", "in parts", "cut"):
        table.add_column(heading, justify="right")
    for one in summary.sizes[:_ROWS]:
        ml = (digits(each, 2) for each in (one.median_ml, one.low_ml, one.high_ml))
        name = Text(name_of(one.label, summary.labels))
        table.add_row(name, str(one.present), *ml, str(one.in_parts), str(one.cut))
    if len(summary.sizes) > _ROWS:
        table.caption = f"{len(summary.sizes) - _ROWS} more in the table"
    return table


def _print_reviews(summary: "StatisticsSummary") -> None:
    from unet_pipeline import console
    from unet_pipeline.report.review_table import reasons

    for one in summary.reviews[:_FIRST]:
        line = Text("look at ", style="yellow")
        line += Text(f"{one.case}: {reasons(one, summary.labels)[0]}")
        console.out.print(line, soft_wrap=True)
    if summary.to_review > _FIRST:
        console.out.print(f"and {summary.to_review - _FIRST} more")


def _print_rest(summary: "StatisticsSummary", seconds: float) -> None:
    from unet_pipeline import console

    counts = summary.counts
    said = f"{counts['done']} measured in {seconds:.1f} s"
    if counts["skipped"]:
        said += f", {counts['skipped']} known from their records"
    if counts["quarantined"]:
        said += f", {counts['quarantined']} left out"
    if summary.without:
        said += f", {summary.without} images have no label map"
    console.out.print(said)
    if summary.report:
        console.out.print(Text(f"Report  {summary.report}"), soft_wrap=True)
        console.out.print(Text(f"Table   {summary.table}"), soft_wrap=True)
