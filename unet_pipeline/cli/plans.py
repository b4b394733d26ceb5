"""The command ``plan``: what a run will ask for, before it runs."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from unet_pipeline.cli.common import print_json, show_files
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json, ListFiles
from unet_pipeline.config import PlanSettings
from unet_pipeline.processes import lasting_imports
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.quantities import bytes_text, duration_text, money_text

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from unet_pipeline.jobs.plan import CasePlan, Estimate
    from unet_pipeline.tiling.plan import TilePlan


@from_settings
def plan(
    settings: PlanSettings,
    measure: Annotated[
        bool,
        typer.Option(
            help="Time a few forward passes of one window and a small file on this machine; "
            "without it no seconds and no price are shown."
        ),
    ] = True,
    list_files: ListFiles = False,
    as_json: Json = False,
) -> None:
    """Show windows, tiles, bytes, memory, time and price before anything runs.

    For one image, or for a cohort: then headers are read, and a case that `segment` would refuse by
    its header is named and counted (exit status 1). Seconds are those of this machine: windows x
    the time of one, and decoding and encoding; `--workers` share them. The options are those of
    `segment`.

    Example: `unet-pipeline plan s3://scans/ --model hippocampus --workers 8 --hourly-rate 1.20`
    """
    with lasting_imports():
        from unet_pipeline.jobs.plan import is_one_image

    if list_files:
        faults = show_files(settings, as_json)
    else:
        run = _plan_image if is_one_image(settings) else _plan_cohort
        faults = run(settings, measure, as_json)
    raise typer.Exit(1 if faults else 0)


def _plan_image(settings: PlanSettings, measure: bool, as_json: bool) -> int:
    from unet_pipeline import console

    with lasting_imports():
        from unet_pipeline.jobs.plan import close_plan, plan_one
        from unet_pipeline.speed import measure_speed

    planning, case, tiles = plan_one(settings)
    with console.waiting("Timing a window"):
        asked, window = settings.windows.engine, tiles.roi_size
        speed = measure_speed(planning.model, asked, window) if measure else None
    found = close_plan(planning, [case], 0, speed)
    if as_json:
        print_json({**found.as_dict(), **tiles.as_dict()})
    else:
        title = f"Plan with {planning.model.bundle.name}"
        console.out.print(_table(title, [*_of_image(tiles), *_of_costs(found)]))
    return 0


def _plan_cohort(settings: PlanSettings, measure: bool, as_json: bool) -> int:
    from unet_pipeline import console

    with lasting_imports():
        from unet_pipeline.jobs.plan import close_plan, largest_window, open_plan, run_plan
        from unet_pipeline.speed import measure_speed

    with console.waiting("Listing the cohort"):
        planning = open_plan(settings)
    plans: list[CasePlan] = []
    faults: list[CaseRecord] = []
    with console.case_progress(
        len(planning.cohort.cases) + len(planning.cohort.faults), "Planning"
    ) as progress:
        for one in run_plan(planning):
            print_json(one.as_dict(), when=as_json)
            if isinstance(one, CaseRecord):
                faults.append(one)
                console.advance(progress, one)
            else:
                plans.append(one)
                progress.update(progress.task_ids[0], advance=1, last=one.case)
    with console.waiting("Timing a window"):
        asked = settings.windows.engine
        window = largest_window(plans) if plans else None
        speed = measure_speed(planning.model, asked, window) if measure and plans else None
    found = close_plan(planning, plans, len(faults), speed)
    if as_json:
        print_json(found.as_dict())
    else:
        title = f"Plan with {planning.model.bundle.name}"
        console.print_accounting(planning.cohort.accounting)
        console.out.print(_table(title, [*_of_cohort(found), *_of_costs(found)]))
    return len(faults)


Row = tuple[str, str]


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _of_image(tiles: "TilePlan") -> Iterator[Row]:
    yield "file", f"{_by(tiles.native_shape)} voxels"
    yield "model grid", f"{_by(tiles.model_shape)} voxels"
    yield "window (roi_size)", _by(tiles.roi_size)
    yield "windows", f"{tiles.n_windows:,}"
    largest = _by(tiles.tiles[0].write_box.shape)
    yield "tiles", f"{tiles.n_tiles:,} of up to {largest} voxels"


def _of_cohort(found: "Estimate") -> Iterator[Row]:
    refused = f", and {found.faults:,} that would be refused" if found.faults else ""
    yield "cases", f"{found.cases:,}{refused}"
    mean = found.windows / found.cases if found.cases else 0.0
    yield "windows", f"{found.windows:,}: {mean:,.1f} a case, {found.most_windows:,} at most"
    yield "tiles", f"{found.tiles:,}"


def _of_costs(found: "Estimate") -> Iterator[Row]:
    if found.at_most:
        yield "", "at most: the bundle crops to what the voxels show, which no header tells"
    yield "peak of a case", f"{bytes_text(found.peak_bytes)} for its scores, scratch included"
    if found.handed_bytes:
        yield (
            "between tiles",
            f"{bytes_text(found.handed_bytes)} at most that workers send each other",
        )
    if found.first_windows:
        yield "first stage", f"{found.first_windows:,} windows"
    stored, voxels = bytes_text(found.bytes_read), bytes_text(found.voxel_bytes)
    yield "images", f"{stored} to read, {voxels} decoded"
    yield "label maps", f"{bytes_text(found.label_bytes)} before compression"
    if found.speed is None or found.device_seconds is None or found.codec_seconds is None:
        return
    one = _milliseconds(found.speed.seconds_per_window)
    yield "one window", f"{one} on {found.speed.device}, measured here"
    yield "network", f"{duration_text(found.device_seconds)} of device time"
    yield "decode and encode", duration_text(found.codec_seconds)
    workers = "1 worker" if found.workers == 1 else f"{found.workers:,} workers"
    yield "wall time", f"about {duration_text(found.wall_seconds or 0.0)} on {workers}"
    if found.rate is not None and found.price is not None:
        currency = found.rate.currency
        each = f", {money_text(found.price_per_case or 0.0, currency)} a case"
        yield "price", f"{money_text(found.price, currency)}{each if found.cases > 1 else ''}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms" if seconds < 1 else duration_text(seconds)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
