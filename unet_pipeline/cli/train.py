"""The command train."""

from typing import TYPE_CHECKING

import typer

from unet_pipeline.cli.common import print_json
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json
from unet_pipeline.config import TrainSettings
from unet_pipeline.processes import lasting_imports

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from unet_pipeline.training.report import TrainReport


@from_settings
def train(settings: TrainSettings, as_json: Json = False) -> None:
    """Train a network on image and mask pairs, and write it as a bundle with a model card.

    Only pairs that pass the geometry gate are trained on. Loss and Dice are in
    `OUTPUT/training/curves.png` while it runs, and for TensorBoard in the same folder. If it is
    killed, the same command goes on from the last checkpoint. Exit status 1 if some case was left
    out.

    Example: `unet-pipeline train s3://scans/t1 s3://scans/labels --steps 1500 --output s3://models/t1`
    """
    report = _train(settings, as_json)
    raise typer.Exit(1 if report.faults else 0)


def _train(settings: TrainSettings, as_json: bool) -> "TrainReport":
    from unet_pipeline import console

    with lasting_imports():
        from unet_pipeline.jobs.train import open_train, run_train

    with console.step_progress(settings.steps) as (on_step, on_history):
        report = run_train(open_train(settings), on_step, on_history)
    if as_json:
        print_json(report.as_dict())
    else:
        console.print_training(report)
    return report
