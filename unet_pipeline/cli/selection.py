"""The commands that choose: depths, compare."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from unet_pipeline.cli.common import print_json
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json
from unet_pipeline.config import CompareSettings, DepthsSettings
from unet_pipeline.processes import lasting_imports

if TYPE_CHECKING:  # these import torch, which takes seconds
    from unet_pipeline.evaluation.records import Evaluation
    from unet_pipeline.jobs.compare import CompareRun
    from unet_pipeline.jobs.depths import DepthsRun


@from_settings
def depths(settings: DepthsSettings, as_json: Json = False) -> None:
    """Score every depth of a nested U-Net on cases it was not trained on, and choose one.

    Prints Dice, surface Dice and Hausdorff distance of each depth with intervals, and what it
    costs; writes a report, the bundle pruned to the cheapest depth that is good enough, and one
    calibrated for adaptive depth. Where a manifest's column split names validation cases, they
    decide; those for training or a test are never looked at. Exit status 1 if some case was left
    out.

    Example: `unet-pipeline depths s3://scans/val --masks s3://masks --model hippocampus
    --output s3://results/depths`
    """
    with lasting_imports():
        from unet_pipeline.jobs.depths import open_depths, run_depths

    raise typer.Exit(_run(settings, open_depths, run_depths, as_json))


@from_settings
def compare(settings: CompareSettings, as_json: Json = False) -> None:
    """Score several bundles on one cohort, test them in pairs, and show where they differ most.

    Bundles may have any spacing and windows of their own: the label maps are compared on the grid
    of the files. To choose one of the bundles, say --split validation: test cases are for the last
    word. Exit status 1 if some case was left out.

    Example: `unet-pipeline compare s3://scans/val full=s3://models/a half=s3://models/b
    --masks s3://masks --output s3://results/compare`
    """
    with lasting_imports():
        from unet_pipeline.jobs.compare import open_compare, run_compare

    raise typer.Exit(_run(settings, open_compare, run_compare, as_json))


def _run(
    settings: Any,
    open_run: "Callable[[Any], DepthsRun | CompareRun]",
    run: "Callable[[Any, Any, Any], Evaluation]",
    as_json: bool,
) -> int:
    """Check the request, run it with a bar, and print the result; return the exit status."""
    from unet_pipeline import console
    from unet_pipeline.cli.selection_tables import print_evaluation
    from unet_pipeline.cluster.starting import open_executor

    with console.waiting("Checking the request"):
        request = open_run(settings)
    with (
        open_executor(settings.cluster.spec(settings.windows.batch)) as executor,
        console.case_progress(request.work, "Scoring") as progress,
    ):

        def advance(candidate: str, record: Any) -> None:
            console.advance(progress, record)
            print_json({"entrant": candidate, **record.as_dict()}, when=as_json)

        evaluation = run(request, executor, advance)
    if as_json:
        print_json(evaluation.as_dict())
    else:
        print_evaluation(evaluation)
    if evaluation.stopped:
        console.say_stopped(evaluation.stopped)
        return 3
    return 1 if evaluation.left_out else 0
