"""The command line: the same settings objects as the flow, filled from options.

Exit status: 0 all cases done, 1 the run finished and some case was quarantined (or failed the
check), 2 the request itself was wrong (said in one line, before any work).
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from unet_pipeline import __version__
from unet_pipeline.config import CheckSettings, SegmentSettings, TrainSettings
from unet_pipeline.errors import PipelineError, RequestError

app = typer.Typer(
    name="unet-pipeline",
    help="Segment archives of medical volumes with U-Net and UNet++ on a Dask cluster.",
    epilog="Exit status: 0 all cases done; 1 some case was quarantined; 2 the request was wrong.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

_S = TypeVar("_S", bound=BaseModel)

Images = Annotated[
    str,
    typer.Argument(
        help="A prefix or folder, a glob, a BIDS tree, or a manifest (.csv or .jsonl with columns "
        "case,image,mask). Any URL: s3://bucket/prefix, /folder, memory://."
    ),
]
Model = Annotated[
    str,
    typer.Option(help="Bundle: a folder, a URL, or a name: phantom, hippocampus."),
]
Masks = Annotated[
    str | None, typer.Option(help="Reference masks, found by name; gives Dice per label.")
]
Endpoint = Annotated[
    str | None,
    typer.Option(help="S3 endpoint. Default: AWS_ENDPOINT_URL.", rich_help_panel="Storage"),
]
Profile = Annotated[
    str | None, typer.Option(help="Profile of the AWS credentials file.", rich_help_panel="Storage")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")]
Overlap = Annotated[
    float | None,
    typer.Option(
        help="Share of a window that overlaps the next one, 0 to 1. Default: the bundle's.",
        rich_help_panel="Windows",
    ),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,Z",
        help="Voxels of one tile, the unit of fan-out. Default: as large as memory allows. "
        "The label map does not depend on it.",
        rich_help_panel="Windows",
    ),
]
Remedies = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="What may be put right instead of refused: reorient (storage order, loses nothing), "
        "resample-mask and resample-channels (onto the first channel's grid), sform or qform "
        "(the form to take where a header has both).",
        rich_help_panel="Remedies",
    ),
]
ToleranceVoxels = Annotated[
    float,
    typer.Option(
        help="Largest displacement of any corner between the grids of one case, in voxels.",
        rich_help_panel="Remedies",
    ),
]
MemoryGb = Annotated[
    float,
    typer.Option(
        help="Memory for the scores of one tile and for one decoded volume, in GB.",
        rich_help_panel="Limits",
    ),
]


@app.command()
def segment(
    images: Images,
    model: Model,
    output: Annotated[str, typer.Option(help="Prefix that label maps and reports go to.")],
    masks: Masks = None,
    overlap: Overlap = None,
    blend: Annotated[
        str | None,
        typer.Option(
            metavar="gaussian|constant",
            help="Weight of a window's voxels where windows overlap. Default: the bundle's.",
            rich_help_panel="Windows",
        ),
    ] = None,
    tile: Tile = None,
    batch: Annotated[
        int, typer.Option(help="Windows per forward pass.", rich_help_panel="Windows")
    ] = 1,
    cluster: Annotated[
        str,
        typer.Option(
            metavar="serial|local|cuda|tcp://...",
            help="This process, Dask workers here, one worker per GPU, or a running scheduler.",
            rich_help_panel="Cluster",
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Worker processes. Default: 1 for local, one per GPU for cuda.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads of one forward pass. Default: all cores.", rich_help_panel="Cluster"
        ),
    ] = None,
    remedies: Remedies = None,
    tolerance: ToleranceVoxels = 0.05,
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
    retries: Annotated[
        int, typer.Option(help="Tries again after a storage fault.", rich_help_panel="Limits")
    ] = 2,
    case_minutes: Annotated[
        float, typer.Option(help="Time limit of one case.", rich_help_panel="Limits")
    ] = 60.0,
    memory_gb: MemoryGb = 2.0,
    scratch: Annotated[
        str | None,
        typer.Option(
            help="Folder for volumes over that memory; all workers must see it.",
            rich_help_panel="Limits",
        ),
    ] = None,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Segment every volume of a cohort.

    Writes `<name>_dseg.nii.gz`, a picture and a sidecar for each case, and a report for the run.
    A case that is at fault is quarantined with its reason; the others are done all the same.

    Example: `unet-pipeline segment s3://scans/night/ --model hippocampus --output s3://results/`
    """
    with _request_errors():
        settings = _settings(
            SegmentSettings,
            images=images,
            model=model,
            output=output,
            masks=masks,
            windows={"overlap": overlap, "blend": blend, "batch": batch, "tile": _three(tile)},
            cluster={"kind": cluster, "workers": workers, "threads": threads},
            storage={"endpoint_url": endpoint_url, "profile": profile},
            budget={
                "retries": retries,
                "case_minutes": case_minutes,
                "memory_gb": memory_gb,
                "scratch": scratch,
            },
            gate={
                "remedies": _remedies(remedies),
                "affine_voxels": tolerance,
                "content": content,
            },
            resume=resume,
        )
        quarantined = _segment(settings, as_json)
    raise typer.Exit(1 if quarantined else 0)


@app.command()
def plan(
    image: Annotated[str, typer.Argument(help="One image, any URL. Only its header is read.")],
    model: Model,
    overlap: Overlap = None,
    tile: Tile = None,
    memory_gb: MemoryGb = 2.0,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Show windows, tiles and memory before anything runs."""
    from unet_pipeline.console import out, plan_table
    from unet_pipeline.request import plan_image

    with _request_errors(case_too=True):
        settings = _settings(
            SegmentSettings,
            images=image,
            model=model,
            output="memory://nothing",
            windows={"overlap": overlap, "tile": _three(tile)},
            storage={"endpoint_url": endpoint_url, "profile": profile},
            budget={"memory_gb": memory_gb},
        )
        found, chosen = plan_image(settings)
    if as_json:
        return _print_json(found.as_dict())
    return out.print(plan_table(found, chosen.bundle.name))


@app.command()
def check(
    images: Images,
    masks: Annotated[str | None, typer.Option(help="Masks, found by name.")] = None,
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
            "sound cases that segment and train take as IMAGES.",
            rich_help_panel="Remedies",
        ),
    ] = None,
    remedies: Remedies = None,
    tolerance: ToleranceVoxels = 0.05,
    output: Annotated[
        str | None,
        typer.Option(help="Prefix of a report with pictures of the doubtful pairs, and a table."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Dask processes for --content. Default: this process."),
    ] = None,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Check the geometry of images, and whether masks lie on them.

    Prints one verdict a case: pass, warn (wants a look) or fail (segment would refuse it), with
    reason codes and distances in mm. Exit status 1 if any case failed.

    Example: `unet-pipeline check s3://scans/ --masks s3://masks/ --content --output s3://audits/`
    """
    with _request_errors():
        settings = _settings(
            CheckSettings,
            images=images,
            masks=masks,
            model=model,
            output=output,
            fix=fix,
            gate={
                "remedies": _remedies(remedies) or (("reorient",) if fix else ()),
                "affine_voxels": tolerance,
                "content": content,
            },
            cluster={"kind": "local" if workers else "serial", "workers": workers},
            storage={"endpoint_url": endpoint_url, "profile": profile},
        )
        failed = _check(settings, as_json)
    raise typer.Exit(1 if failed else 0)


@app.command()
def train(
    images: Images,
    masks: Annotated[str, typer.Argument(help="Reference masks, found by name.")],
    output: Annotated[str, typer.Option(help="Folder of the bundle to write.")],
    network: Annotated[
        str, typer.Option(metavar="unet|unetpp", help="Network to train.")
    ] = "unetpp",
    features: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Channels of each level. Default: 16,16,32,64,128."),
    ] = None,
    roi_size: Annotated[
        str, typer.Option(metavar="X,Y,Z", help="Window in voxels of the model spacing.")
    ] = "32,48,32",
    spacing: Annotated[
        str | None,
        typer.Option(metavar="X,Y,Z", help="Model spacing in mm. Default: the cohort's median."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 300,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 2,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-3,
    holdout: Annotated[float, typer.Option(help="Share of cases kept aside for Dice.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of split, crops and weights.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")] = None,
    title: Annotated[
        str | None, typer.Option(help="First line of the card.", rich_help_panel="Model card")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the data come from.", rich_help_panel="Model card")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Terms of the weights.", rich_help_panel="Model card")
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Names of labels 1, 2, ...", rich_help_panel="Model card"
        ),
    ] = None,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Train a network on image and mask pairs, and write it as a bundle with a model card."""
    from unet_pipeline.training.card import TrainingNote

    with _request_errors():
        settings = _settings(
            TrainSettings,
            images=images,
            masks=masks,
            output=output,
            network=network,
            features=_numbers(features, int, "--features"),
            roi_size=_three(roi_size),
            spacing=_numbers(spacing, float, "--spacing"),
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            holdout=holdout,
            seed=seed,
            threads=threads,
            storage={"endpoint_url": endpoint_url, "profile": profile},
        )
        given = {"title": title, "data": data, "licence": licence}
        names = tuple(label_names.split(",")) if label_names else ()
        note = TrainingNote(**{k: v for k, v in given.items() if v}, label_names=names)
        _train(settings, note, as_json)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the report and the label maps.")] = Path(
        "demo-output"
    ),
) -> None:
    """Run the main job on phantoms: a real S3 server, Prefect, Dask; nothing is left running."""
    from unet_pipeline.demo import run_demo

    with _request_errors():
        raise typer.Exit(run_demo(output))


@app.command()
def up(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the server's database and logs.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect page.")] = None,
) -> None:
    """Start a local Prefect server and worker, and register the deployments. Ctrl-C ends it."""
    from unet_pipeline.serve import run_up

    with _request_errors():
        raise typer.Exit(run_up(home, port))


@app.callback(invoke_without_command=True)
def _options(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
) -> None:
    if show_version:
        sys.stdout.write(f"unet-pipeline {__version__}\n")
        raise typer.Exit
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Run the command line."""
    app()


def _segment(settings: SegmentSettings, as_json: bool) -> int:
    """Run a cohort on the settings' cluster; return how many cases are quarantined."""
    from unet_pipeline import console
    from unet_pipeline.cluster.backends import open_executor
    from unet_pipeline.cohort import close_run, faults_of, open_run, segment_all

    with console.waiting("Checking the request"):
        run = open_run(settings)
    records = faults_of(run)
    begin = perf_counter()
    with (
        open_executor(settings.cluster.kind, settings.cluster.workers) as executor,
        console.case_progress(len(run.cases) + len(records), "Segmenting") as progress,
    ):
        for record in records:
            console.advance(progress, record)
            _print_json(record.as_dict(), when=as_json)
        for record in segment_all(run, executor):
            records.append(record)
            console.advance(progress, record)
            _print_json(record.as_dict(), when=as_json)
        seconds, workers = perf_counter() - begin, executor.workers
    summary = close_run(run, records, seconds=seconds, workers=workers)
    if as_json:
        _print_json(summary.as_dict())
    else:
        console.out.print(console.cases_table(records))
        console.print_summary(summary)
    return summary.counts["quarantined"]


def _check(settings: CheckSettings, as_json: bool) -> int:
    """Check a cohort; return how many cases fail."""
    from unet_pipeline import console
    from unet_pipeline.audit.run import check_all, close_audit, open_audit
    from unet_pipeline.cluster.backends import open_executor

    with console.waiting("Listing the cohort"):
        audit = open_audit(settings)
    records = []
    begin = perf_counter()
    with (
        open_executor(settings.cluster.kind, settings.cluster.workers) as executor,
        console.case_progress(len(audit.cases) + len(audit.faults), "Checking") as progress,
    ):
        for record in check_all(audit, executor):
            records.append(record)
            console.advance_check(progress, records, perf_counter() - begin)
            _print_json(record.as_dict(), when=as_json)
            if not as_json and record.verdict != "pass":
                console.print_check(progress, record)
    summary = close_audit(audit, records, seconds=perf_counter() - begin)
    if not as_json:
        console.print_audit(summary)
    return summary.counts["fail"]


def _train(settings: TrainSettings, note: Any, as_json: bool) -> None:
    from unet_pipeline import console
    from unet_pipeline.training.run import train as run_training

    with console.step_progress(settings.steps) as progress:
        report = run_training(settings, note, on_step=lambda step, loss: progress(step, loss))
    if as_json:
        return _print_json(report.as_dict())
    return console.print_training(report)


@contextmanager
def _request_errors(case_too: bool = False) -> Iterator[None]:
    """Turn a wrong request into one line and exit status 2."""
    from unet_pipeline.console import say_error

    try:
        yield
    except PipelineError as error:
        if not isinstance(error, RequestError) and not case_too:
            raise
        say_error(error)
        raise typer.Exit(2) from error


def _settings(kind: type[_S], **values: Any) -> _S:
    """Fill a settings object; what is wrong with a value becomes one sentence."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + str(first["loc"][-1] if first["loc"] else "").replace("_", "-")
        raise RequestError(
            "setting_invalid",
            subject=name,
            found=repr(first["input"]),
            wanted=first["msg"][0].lower() + first["msg"][1:],
            remedy="See --help",
        ) from error


def _three(text: str | None) -> tuple[int, ...] | None:
    values = _numbers(text, int, "--tile or --roi-size")
    if values is not None and len(values) != 3:
        _wrong_numbers(text, "three whole numbers, X,Y,Z")
    return values


def _numbers(text: str | None, kind: Callable[[str], Any], option: str) -> tuple[Any, ...] | None:
    try:
        return None if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError:
        _wrong_numbers(text, f"numbers with commas between them for {option}")


def _remedies(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _wrong_numbers(text: str | None, wanted: str) -> NoReturn:
    raise RequestError("setting_invalid", found=repr(text), wanted=wanted, remedy="See --help")


def _print_json(value: dict[str, Any], when: bool = True) -> None:
    if when:
        sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
        sys.stdout.flush()
