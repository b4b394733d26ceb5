"""The commands on cohorts: segment and check."""

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from unet_pipeline.cli.common import print_json, show_files, until_stopped
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json, ListFiles, MetricsFile, MetricsPort
from unet_pipeline.config import CheckSettings, SegmentSettings
from unet_pipeline.logs import about
from unet_pipeline.processes import lasting_imports
from unet_pipeline.records import CaseRecord, RunSummary
from unet_pipeline.watching.places import places_of

if TYPE_CHECKING:
    from unet_pipeline.runs import Run
    from unet_pipeline.watching.watch import Watch


@from_settings
def segment(
    settings: SegmentSettings,
    list_files: ListFiles = False,
    as_json: Json = False,
    metrics_port: MetricsPort = None,
    metrics_file: MetricsFile = None,
) -> None:
    """Segment every volume of a cohort.

    Writes `<name>_dseg.nii.gz` (or `.ome.zarr`), a picture and a sidecar for each case, and a
    report for the run. A case that is at fault is quarantined with its reason; the others are done
    all the same.

    Example: `unet-pipeline segment s3://scans/night/ --model hippocampus --output s3://results/`
    """
    if list_files:
        raise typer.Exit(int(bool(show_files(settings, as_json))))
    from unet_pipeline.watching.watch import watching

    with watching(places_of(metrics_port, metrics_file)) as watch:
        status = _segment(settings, as_json, watch)
    raise typer.Exit(status)


@from_settings
def check(settings: CheckSettings, list_files: ListFiles = False, as_json: Json = False) -> None:
    """Check the geometry of images, and whether masks lie on them.

    Prints one verdict a case: pass, warn (wants a look) or fail (segment would refuse it), with
    reason codes and distances in mm. Exit status 1 if any case failed. Without `--content` only
    headers are read; with it the voxels, too: NaN, labels, the field of view, and whether each mask
    lies on the anatomy; `--workers` share them.

    Example: `unet-pipeline check s3://scans/ --masks s3://masks/ --content --output s3://audits/`
    """
    if list_files:
        raise typer.Exit(int(bool(show_files(settings, as_json))))
    raise typer.Exit(_check(settings, as_json))


def _segment(settings: SegmentSettings, as_json: bool, watch: "Watch") -> int:
    """Run a cohort on the settings' cluster; return the exit status."""
    from unet_pipeline import console
    from unet_pipeline.cluster.starting import starting

    with starting(settings.cluster.spec(settings.windows.batch)) as opened:
        with lasting_imports():  # while the workers start and do the same
            from unet_pipeline.jobs.segment import (
                close_models,
                faults_of,
                open_segment,
                run_segment,
                with_engine,
            )
        with console.waiting("Checking the request"):
            run = open_segment(settings)
        with about(run.run_id):
            console.err.print(run.expected, highlight=False, markup=False, soft_wrap=True)
        faults, records = faults_of(run), list[CaseRecord]()
        begin = perf_counter()
        total = len(run.each) * len(run.cases) + len(faults)
        with about(run.run_id), console.case_progress(total, "Segmenting") as progress:
            executor = opened()
            watch.begin(run, executor.workers)

            def take(record: CaseRecord) -> None:
                records.append(record)
                watch.take([record])
                console.advance(progress, record)
                print_json(record.as_dict(), when=as_json)

            for record in faults:
                take(record)
            with until_stopped() as stop:
                run = with_engine(run, executor)
                for record in run_segment(run, executor):
                    take(record)
            seconds, workers = perf_counter() - begin, executor.workers
        # before the cluster ends: that may take longer than a signal leaves
        summaries = close_models(run, records, seconds=seconds, workers=workers, stopped=stop.why)
        watch.end(summaries)
        _print_end(run, records, summaries, as_json)
        if any(summary.stopped for summary in summaries):
            console.say_stopped(summaries[0].stopped)
            stop.go_on()
            return 3
    return 1 if any(summary.counts["quarantined"] for summary in summaries) else 0


def _print_end(
    run: "Run", records: Sequence[CaseRecord], summaries: Sequence[RunSummary], as_json: bool
) -> None:
    """Print tables and sums of a run, of each model."""
    from unet_pipeline import console

    for summary in summaries:
        if as_json:
            print_json(summary.as_dict())
        else:
            of_model = [one for one in records if one.model == summary.model]
            console.out.print(console.cases_table(of_model, summary.model))
            console.print_summary(summary)
    if not as_json:
        console.print_accounting(run.accounting)


def _check(settings: CheckSettings, as_json: bool) -> int:
    """Check a cohort; return the exit status."""
    from unet_pipeline import console

    with lasting_imports():
        from unet_pipeline.cluster.starting import open_executor
        from unet_pipeline.jobs.check import close_check, open_check, run_check

    with console.waiting("Listing the cohort"):
        run = open_check(settings)
    records = []
    begin = perf_counter()
    with open_executor(settings.cluster.spec()) as executor:
        with (
            console.case_progress(len(run.cases) + len(run.faults), "Checking") as progress,
            until_stopped() as stop,
        ):
            for record in run_check(run, executor):
                records.append(record)
                console.advance_check(progress, records, perf_counter() - begin)
                print_json(record.as_dict(), when=as_json)
                if not as_json and record.verdict != "pass":
                    console.print_check(progress, record)
        seconds = perf_counter() - begin
        summary = close_check(run, records, seconds=seconds, stopped=stop.why)
        if not as_json:
            console.print_accounting(run.cohort.accounting)
            console.print_check_summary(summary)
        if summary.stopped:
            console.say_stopped(summary.stopped)
            stop.go_on()
            return 3
    return 1 if summary.counts["fail"] else 0
