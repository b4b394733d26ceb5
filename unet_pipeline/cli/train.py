"""The command train."""

from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.cli.common import print_json, request_errors, settings_of
from unet_pipeline.cli.grouped import grouped
from unet_pipeline.cli.options import GateOptions, Images, Json, MaskPattern, StorageOptions
from unet_pipeline.cli.train_options import (
    AugmentOptions,
    CardOptions,
    DataOptions,
    LossOptions,
    NetworkOptions,
    OptimiserOptions,
    WatchOptions,
)
from unet_pipeline.config import TrainSettings

if TYPE_CHECKING:  # these import torch, which takes seconds
    from unet_pipeline.training.card import TrainingNote
    from unet_pipeline.training.report import TrainReport


@grouped
def train(
    images: Images,
    output: Annotated[str, typer.Option(help="Folder of the bundle to write.")],
    masks: Annotated[
        str | None,
        typer.Argument(help="Reference masks, found by name; a manifest names them itself."),
    ] = None,
    mask_pattern: MaskPattern = None,
    *,
    network: NetworkOptions,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 300,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 2,
    loss: LossOptions,
    optimiser: OptimiserOptions,
    augment: AugmentOptions,
    cases: DataOptions,
    gate: GateOptions,
    watch: WatchOptions,
    seed: Annotated[int, typer.Option(help="Seed of split, crops and weights.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")] = None,
    card: CardOptions,
    storage: StorageOptions,
    as_json: Json = False,
) -> None:
    """Train a network on image and mask pairs, and write it as a bundle with a model card.

    Only pairs that pass the geometry gate are trained on. Loss and Dice are in
    `OUTPUT/training/curves.png` while it runs, and for TensorBoard in the same folder. If it is
    killed, the same command goes on from the last checkpoint. Exit status 1 if some case was left
    out.

    Example: `unet-pipeline train s3://scans/t1 s3://scans/labels --steps 1500 --output s3://models/t1`
    """
    with request_errors():
        settings = settings_of(
            TrainSettings,
            images=images,
            masks=masks,
            mask_pattern=mask_pattern,
            output=output,
            **network.settings(),
            **cases.settings(),
            steps=steps,
            batch=batch,
            loss=loss.settings(),
            optimiser=optimiser.settings(),
            **augment.settings(),
            **watch.settings(),
            seed=seed,
            threads=threads,
            gate=gate.settings(),
            storage=storage.settings(),
        )
        report = _train(settings, card.note(), as_json)
    raise typer.Exit(1 if report.faults else 0)


def _train(settings: TrainSettings, note: "TrainingNote", as_json: bool) -> "TrainReport":
    from unet_pipeline import console
    from unet_pipeline.jobs.train import open_train, run_train

    with console.step_progress(settings.steps) as (on_step, on_history):
        report = run_train(open_train(settings, note), on_step, on_history)
    if as_json:
        print_json(report.as_dict())
    else:
        console.print_training(report)
    return report
