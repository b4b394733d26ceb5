"""The commands on cohorts: segment and check."""

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Annotated, Any

import typer

from unet_pipeline.cli.common import (
    print_json,
    request_errors,
    settings_of,
    show_files,
    three,
    until_stopped,
)
from unet_pipeline.cli.grouped import Options, grouped
from unet_pipeline.cli.options import (
    Batch,
    ClusterOptions,
    CostOptions,
    Depth,
    Engine,
    GateOptions,
    IgnorePostprocessing,
    Images,
    Json,
    LimitOptions,
    ListFiles,
    MaskPattern,
    Masks,
    MaxVolumeGb,
    MaxWindows,
    MemoryGb,
    Mirror,
    Model,
    Overlap,
    StorageOptions,
    Tile,
    Trust,
)
from unet_pipeline.config import CheckSettings, SegmentSettings
from unet_pipeline.processes import lasting_imports


@dataclass(frozen=True)
class WindowOptions(Options):
    """How windows are laid over a volume, and what runs them."""

    overlap: Overlap = None
    blend: Annotated[
        str | None,
        typer.Option(
            metavar="gaussian|constant",
            help="Weight of a window's voxels where windows overlap. Default: the bundle's.",
            rich_help_panel="Windows",
        ),
    ] = None
    mirror: Mirror = None
    tile: Tile = None
    batch: Batch = 1
    engine: Engine = "eager"

    def settings(self) -> dict[str, Any]:
        """Return the values, the tile as three numbers."""
        return {**asdict(self), "tile": three(self.tile)}


@dataclass(frozen=True)
class BudgetOptions(Options):
    """What a case may cost before it is stopped."""

    retries: Annotated[
        int, typer.Option(help="Tries again after a storage fault.", rich_help_panel="Limits")
    ] = 2
    case_minutes: Annotated[
        float,
        typer.Option(
            help="Time limit of one case, counted while it runs and not while it waits behind "
            "others.",
            rich_help_panel="Limits",
        ),
    ] = 60.0
    memory_gb: MemoryGb = 2.0
    max_volume_gb: MaxVolumeGb = 64.0
    max_windows: MaxWindows = None
    scratch: Annotated[
        str | None,
        typer.Option(
            help="Folder for volumes over that memory; all workers must see it.",
            rich_help_panel="Limits",
        ),
    ] = None


@grouped
def segment(
    images: Images,
    model: Model,
    output: Annotated[str, typer.Option(help="Prefix that label maps and reports go to.")],
    masks: Masks = None,
    mask_pattern: MaskPattern = None,
    require_masks: Annotated[
        bool,
        typer.Option(
            "--require-masks",
            help="Quarantine a case whose mask is missing or at fault. Default: it is segmented "
            "without a Dice, and the fault of the mask is named.",
        ),
    ] = False,
    depth: Depth = None,
    trust: Trust = False,
    ignore_postprocessing: IgnorePostprocessing = False,
    *,
    windows: WindowOptions,
    cluster: ClusterOptions,
    gate: GateOptions,
    content: Annotated[
        bool,
        typer.Option(
            "--content", help="Look also whether each mask lies on the anatomy; it only warns."
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(help="Skip cases whose input, weights and settings have not changed."),
    ] = True,
    budget: BudgetOptions,
    cost: CostOptions,
    storage: StorageOptions,
    list_files: ListFiles = False,
    as_json: Json = False,
) -> None:
    """Segment every volume of a cohort.

    Writes `<name>_dseg.nii.gz`, a picture and a sidecar for each case, and a report for the run.
    A case that is at fault is quarantined with its reason; the others are done all the same.

    Example: `unet-pipeline segment s3://scans/night/ --model hippocampus --output s3://results/`
    """
    with request_errors():
        settings = settings_of(
            SegmentSettings,
            images=images,
            model=model,
            output=output,
            masks=masks,
            mask_pattern=mask_pattern,
            require_masks=require_masks,
            depth=depth,
            trust=trust,
            ignore_postprocessing=ignore_postprocessing,
            windows=windows.settings(),
            cluster=cluster.settings(),
            storage=storage.settings(),
            budget=budget.settings(),
            gate={**gate.settings(), "content": content},
            cost=cost.settings(),
            resume=resume,
        )
        at_fault = list_files and show_files(settings, as_json)
        status = int(bool(at_fault)) if list_files else _segment(settings, as_json)
    raise typer.Exit(status)


@grouped
def check(
    images: Images,
    masks: Annotated[str | None, typer.Option(help="Masks, found by name.")] = None,
    mask_pattern: MaskPattern = None,
    model: Annotated[
        str | None,
        typer.Option(help="Bundle whose channels and labels the cases must fit."),
    ] = None,
    content: Annotated[
        bool,
        typer.Option(
            "--content",
            help="Read the voxels, too: NaN, labels, the field of view, and whether each mask lies "
            "on the anatomy. Without it only headers are read.",
        ),
    ] = False,
    fix: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write the files that --remedies put right below DIR, and a manifest of all "
            "sound cases that segment takes as IMAGES. Sound files stay where they are: segment "
            "then needs --allow and their prefix, which is printed at the end.",
            rich_help_panel="Remedies",
        ),
    ] = None,
    *,
    gate: GateOptions,
    output: Annotated[
        str | None,
        typer.Option(help="Prefix of a report with pictures of the doubtful pairs, and a table."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Dask processes for --content. Default: this process."),
    ] = None,
    limits: LimitOptions,
    storage: StorageOptions,
    list_files: ListFiles = False,
    as_json: Json = False,
) -> None:
    """Check the geometry of images, and whether masks lie on them.

    Prints one verdict a case: pass, warn (wants a look) or fail (segment would refuse it), with
    reason codes and distances in mm. Exit status 1 if any case failed.

    Example: `unet-pipeline check s3://scans/ --masks s3://masks/ --content --output s3://audits/`
    """
    with request_errors():
        settings = settings_of(
            CheckSettings,
            images=images,
            masks=masks,
            mask_pattern=mask_pattern,
            model=model,
            output=output,
            fix=fix,
            gate=_gate(gate, content, fix),
            cluster={"kind": "local" if workers else "serial", "workers": workers},
            limits=limits.settings(),
            storage=storage.settings(),
        )
        status = bool(show_files(settings, as_json)) if list_files else _check(settings, as_json)
    raise typer.Exit(int(status))


def _gate(gate: GateOptions, content: bool, fix: str | None) -> dict[str, Any]:
    """Return the gate of a check; what is to be fixed is reoriented unless told otherwise."""
    asked = gate.settings()
    remedies = asked["remedies"] or (("reorient",) if fix else ())
    return {**asked, "remedies": remedies, "content": content}


def _segment(settings: SegmentSettings, as_json: bool) -> int:
    """Run a cohort on the settings' cluster; return the exit status."""
    from unet_pipeline import console
    from unet_pipeline.cluster.backends import starting

    with starting(settings.cluster.spec(settings.windows.batch)) as opened:
        with lasting_imports():  # while the workers start and do the same
            from unet_pipeline.jobs.segment import (
                close_segment,
                faults_of,
                open_segment,
                run_segment,
                with_engine,
            )
        with console.waiting("Checking the request"):
            run = open_segment(settings)
        records = faults_of(run)
        begin = perf_counter()
        with console.case_progress(len(run.cases) + len(records), "Segmenting") as progress:
            executor = opened()
            for record in records:
                console.advance(progress, record)
                print_json(record.as_dict(), when=as_json)
            with until_stopped() as stop:
                run = with_engine(run, executor)
                for record in run_segment(run, executor):
                    records.append(record)
                    console.advance(progress, record)
                    print_json(record.as_dict(), when=as_json)
            seconds, workers = perf_counter() - begin, executor.workers
        # before the cluster ends: that may take longer than a signal leaves
        summary = close_segment(run, records, seconds=seconds, workers=workers, stopped=stop.why)
        if as_json:
            print_json(summary.as_dict())
        else:
            console.out.print(console.cases_table(records))
            console.print_accounting(run.accounting)
            console.print_summary(summary)
        if summary.stopped:
            console.say_stopped(summary.stopped)
            stop.go_on()
            return 3
    return 1 if summary.counts["quarantined"] else 0


def _check(settings: CheckSettings, as_json: bool) -> int:
    """Check a cohort; return the exit status."""
    from unet_pipeline import console
    from unet_pipeline.cluster.backends import open_executor
    from unet_pipeline.jobs.check import close_check, open_check, run_check

    with console.waiting("Listing the cohort"):
        audit = open_check(settings)
    records = []
    begin = perf_counter()
    with open_executor(settings.cluster.spec()) as executor:
        with (
            console.case_progress(len(audit.cases) + len(audit.faults), "Checking") as progress,
            until_stopped() as stop,
        ):
            for record in run_check(audit, executor):
                records.append(record)
                console.advance_check(progress, records, perf_counter() - begin)
                print_json(record.as_dict(), when=as_json)
                if not as_json and record.verdict != "pass":
                    console.print_check(progress, record)
        seconds = perf_counter() - begin
        summary = close_check(audit, records, seconds=seconds, stopped=stop.why)
        if not as_json:
            console.print_accounting(audit.cohort.accounting)
            console.print_check_summary(summary)
        if summary.stopped:
            console.say_stopped(summary.stopped)
            stop.go_on()
            return 3
    return 1 if summary.counts["fail"] else 0
