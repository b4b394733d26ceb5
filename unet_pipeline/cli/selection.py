"""The commands that choose: depths, compare."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_pipeline.cli.common import print_json, request_errors, settings_of
from unet_pipeline.cli.grouped import Options, grouped
from unet_pipeline.cli.options import (
    AffineGateOptions,
    Batch,
    ClusterOptions,
    Engine,
    IgnorePostprocessing,
    Images,
    Json,
    LimitOptions,
    MaskPattern,
    Overlap,
    StorageOptions,
    Trust,
)
from unet_pipeline.config import CompareSettings, DepthsSettings

if TYPE_CHECKING:  # these import torch, which takes seconds
    from unet_pipeline.evaluation.standing import Evaluation
    from unet_pipeline.jobs.compare import CompareRun
    from unet_pipeline.jobs.depths import DepthsRun

Masks = Annotated[
    str | None,
    typer.Option(help="Reference masks, found by name. Default: those that a manifest names."),
]


@dataclass(frozen=True)
class ScoringOptions(Options):
    """How label maps are scored, and how surely it is said."""

    surface_mm: Annotated[
        float,
        typer.Option(
            help="Distance up to which surfaces count as the same (NSD), in mm.",
            rich_help_panel="Scoring",
        ),
    ] = 1.0
    confidence: Annotated[
        float,
        typer.Option(help="Of intervals and of the bound on a loss.", rich_help_panel="Scoring"),
    ] = 0.95
    resamples: Annotated[
        int, typer.Option(help="Cohorts drawn anew (bootstrap).", rich_help_panel="Scoring")
    ] = 2000
    seed: Annotated[int, typer.Option(help="Seed of the draws.", rich_help_panel="Scoring")] = 0


@grouped
def depths(
    images: Images,
    model: Annotated[
        str, typer.Option(help="Bundle of a nested U-Net with a head at every depth.")
    ],
    output: Annotated[
        str, typer.Option(help="Prefix of label maps, report and the pruned bundle.")
    ],
    masks: Masks = None,
    mask_pattern: MaskPattern = None,
    tolerance: Annotated[
        float, typer.Option(help="Mean Dice that may be lost against the best depth.")
    ] = 0.005,
    adaptive_loss: Annotated[
        float, typer.Option(help="Mean Dice that adaptive depth may cost, by its calibration.")
    ] = 0.002,
    adaptive: Annotated[
        bool, typer.Option(help="Calibrate adaptive depth, and score it, too.")
    ] = True,
    trust: Trust = False,
    ignore_postprocessing: IgnorePostprocessing = False,
    *,
    scoring: ScoringOptions,
    overlap: Overlap = None,
    batch: Batch = 1,
    engine: Engine = "eager",
    cluster: ClusterOptions,
    gate: AffineGateOptions,
    limits: LimitOptions,
    storage: StorageOptions,
    as_json: Json = False,
) -> None:
    """Score every depth of a nested U-Net on cases it was not trained on, and choose one.

    Prints Dice, surface Dice and Hausdorff distance of each depth with intervals, and what it
    costs; writes a report, the bundle pruned to the cheapest depth that is good enough, and one
    calibrated for adaptive depth. Where a manifest's column split names validation cases, they
    decide; those for training or a test are never looked at. Exit status 1 if some case was left
    out.

    Example: `unet-pipeline depths s3://scans/val --masks s3://masks --model hippocampus
    --output s3://results/depths`
    """
    from unet_pipeline.jobs.depths import open_depths, run_depths

    with request_errors():
        settings = settings_of(
            DepthsSettings,
            images=images,
            masks=masks,
            mask_pattern=mask_pattern,
            model=model,
            output=output,
            tolerance=tolerance,
            adaptive_loss=adaptive_loss if adaptive else None,
            trust=trust,
            ignore_postprocessing=ignore_postprocessing,
            scoring=scoring.settings(),
            windows={"overlap": overlap, "batch": batch, "engine": engine},
            cluster=cluster.settings(),
            gate=gate.settings(),
            budget=limits.settings(),
            storage=storage.settings(),
        )
        status = _run(settings, open_depths, run_depths, as_json)
    raise typer.Exit(status)


@grouped
def compare(
    images: Images,
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two bundles or more; the first is what the others are held against. NAME=BUNDLE "
            "gives a name, and bundles of one name are averaged (seeds)."
        ),
    ],
    output: Annotated[str, typer.Option(help="Prefix of label maps and report.")],
    masks: Masks = None,
    mask_pattern: MaskPattern = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Test all pairs, not only those with the first.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="test|validation",
            help="Cases to score, by a manifest's column split. Default: test; without such cases "
            "validation; without these, those that it leaves open.",
        ),
    ] = None,
    trust: Trust = False,
    ignore_postprocessing: IgnorePostprocessing = False,
    *,
    scoring: ScoringOptions,
    batch: Batch = 1,
    engine: Engine = "eager",
    cluster: ClusterOptions,
    gate: AffineGateOptions,
    limits: LimitOptions,
    storage: StorageOptions,
    as_json: Json = False,
) -> None:
    """Score several bundles on one cohort, test them in pairs, and show where they differ most.

    Bundles may have any spacing and windows of their own: the label maps are compared on the grid
    of the files. To choose one of the bundles, say --split validation: test cases are for the last
    word. Exit status 1 if some case was left out.

    Example: `unet-pipeline compare s3://scans/val full=s3://models/a half=s3://models/b
    --masks s3://masks --output s3://results/compare`
    """
    from unet_pipeline.jobs.compare import open_compare, run_compare

    with request_errors():
        settings = settings_of(
            CompareSettings,
            images=images,
            masks=masks,
            mask_pattern=mask_pattern,
            models=tuple(models),
            output=output,
            split=split,
            pairs="all" if all_pairs else "first",
            trust=trust,
            ignore_postprocessing=ignore_postprocessing,
            scoring=scoring.settings(),
            windows={"batch": batch, "engine": engine},
            cluster=cluster.settings(),
            gate=gate.settings(),
            budget=limits.settings(),
            storage=storage.settings(),
        )
        status = _run(settings, open_compare, run_compare, as_json)
    raise typer.Exit(status)


def _run(
    settings: Any,
    open_run: "Callable[[Any], DepthsRun | CompareRun]",
    run: "Callable[[Any, Any, Any], Evaluation]",
    as_json: bool,
) -> int:
    """Check the request, run it with a bar, and print the result; return the exit status."""
    from unet_pipeline import console
    from unet_pipeline.cli.selection_tables import print_evaluation
    from unet_pipeline.cluster.backends import open_executor

    with console.waiting("Checking the request"):
        request = open_run(settings)
    with (
        open_executor(settings.cluster.spec(settings.windows.batch)) as executor,
        console.case_progress(request.work, "Scoring") as progress,
    ):

        def advance(entrant: str, record: Any) -> None:
            console.advance(progress, record)
            print_json({"entrant": entrant, **record.as_dict()}, when=as_json)

        evaluation = run(request, executor, advance)
    if as_json:
        print_json(evaluation.as_dict())
    else:
        print_evaluation(evaluation)
    if evaluation.stopped:
        console.say_stopped(evaluation.stopped)
        return 3
    return 1 if evaluation.left_out else 0
