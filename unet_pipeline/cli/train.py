"""The command train."""

from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.cli.common import (
    Allow,
    Endpoint,
    Images,
    Json,
    Profile,
    Remedies,
    ToleranceVoxels,
    numbers,
    print_json,
    remedies_of,
    request_errors,
    settings_of,
    three,
)
from unet_pipeline.config import TrainSettings

if TYPE_CHECKING:  # these import torch, which takes seconds
    from unet_pipeline.training.card import TrainingNote
    from unet_pipeline.training.report import TrainReport

_LEARNING, _DATA, _WATCH, _CARD = "How it learns", "Data", "While it runs", "Model card"


def train(
    images: Images,
    output: Annotated[str, typer.Option(help="Folder of the bundle to write.")],
    masks: Annotated[
        str | None,
        typer.Argument(help="Reference masks, found by name; a manifest names them itself."),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Network to train: unet, plain, unetpp, unetplus, unete, asymmetric or "
            "half_decoder (see the command networks).",
        ),
    ] = "unetpp",
    features: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Channels of each level. Default: 16,16,32,64,128."),
    ] = None,
    upsample: Annotated[
        str, typer.Option(metavar="deconv|linear", help="Upsampling: learned, or linear.")
    ] = "deconv",
    attention: Annotated[
        bool, typer.Option("--attention", help="Attention gates on the skips.")
    ] = False,
    roi_size: Annotated[
        str, typer.Option(metavar="X,Y,Z", help="Window in voxels of the model spacing.")
    ] = "32,48,32",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 300,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 2,
    loss: Annotated[
        str,
        typer.Option(
            metavar="dice_ce|weighted|focal|tversky",
            help="Dice + cross-entropy; the same with a weight for each class (for small "
            "structures); Dice + focal loss; Tversky loss.",
            rich_help_panel=_LEARNING,
        ),
    ] = "dice_ce",
    class_weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...",
            help="For weighted and focal, background first. Default for weighted: measured.",
            rich_help_panel=_LEARNING,
        ),
    ] = None,
    head_weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...",
            help="Of a nested network's heads, shallow to deep. Default: each twice the one "
            "before.",
            rich_help_panel=_LEARNING,
        ),
    ] = None,
    tversky: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Weights of false positives and of false negatives.",
            rich_help_panel=_LEARNING,
        ),
    ] = "0.3,0.7",
    optimiser: Annotated[
        str,
        typer.Option(
            metavar="adamw|sgd",
            help="sgd has Nesterov momentum of 0.99.",
            rich_help_panel=_LEARNING,
        ),
    ] = "adamw",
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak rate. Default: 0.001 for adamw, 0.01 for sgd.", rich_help_panel=_LEARNING
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(help="Default: 0.01 for adamw, 0.00003 for sgd.", rich_help_panel=_LEARNING),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="cosine|poly|constant",
            help="How the rate falls after a short warm-up.",
            rich_help_panel=_LEARNING,
        ),
    ] = "cosine",
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bfloat16|float16",
            help="auto: mixed precision on CUDA, float32 on a CPU.",
            rich_help_panel=_LEARNING,
        ),
    ] = "auto",
    augmentation: Annotated[
        str,
        typer.Option(
            metavar="none|light|usual",
            help="light: small rotations and zooms, brightness, contrast, noise. usual: larger "
            "ones, and gamma, blur, coarse voxels.",
            rich_help_panel=_LEARNING,
        ),
    ] = "light",
    flip: Annotated[
        str | None,
        typer.Option(
            metavar="x,y,z",
            help="Axes that crops may be flipped along, where the anatomy allows it: x is "
            "left-right. Default: none.",
            rich_help_panel=_LEARNING,
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            help="Model spacing in mm. Default: the cohort's median.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            help="Output channels, background included. Default: as many as there are labels.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(help="Share of cases kept aside, chosen by the seed.", rich_help_panel=_DATA),
    ] = 0.2,
    fold: Annotated[
        str | None,
        typer.Option(
            help="Fold to keep aside, of a manifest with a column fold. A column split (train, "
            "validation, test) needs no option.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    remedies: Remedies = None,
    tolerance: ToleranceVoxels = 0.05,
    validate_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between validations. Default: a tenth of all.", rich_help_panel=_WATCH
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many validations without a better Dice. Default: never.",
            rich_help_panel=_WATCH,
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between checkpoints.", rich_help_panel=_WATCH)
    ] = 100,
    resume: Annotated[
        bool,
        typer.Option(
            help="Go on from the checkpoint of a training that was stopped.",
            rich_help_panel=_WATCH,
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of split, crops and weights.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: all cores.")] = None,
    memory_gb: Annotated[
        float,
        typer.Option(
            help="Memory for decoded volumes, in GB; what is over it is kept in temporary files.",
            rich_help_panel=_DATA,
        ),
    ] = 8.0,
    title: Annotated[
        str | None, typer.Option(help="First line of the card.", rich_help_panel=_CARD)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the data come from.", rich_help_panel=_CARD)
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Terms of the weights.", rich_help_panel=_CARD)
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Names of labels 1, 2, ...", rich_help_panel=_CARD),
    ] = None,
    allow: Allow = None,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Train a network on image and mask pairs, and write it as a bundle with a model card.

    Only pairs that pass the geometry gate are trained on. Loss and Dice are in
    `OUTPUT/training/curves.png` while it runs, and for TensorBoard in the same folder. If it is
    killed, the same command goes on from the last checkpoint. Exit status 1 if some case was left
    out.

    Example: `unet-pipeline train s3://scans/t1 s3://scans/labels --steps 1500 --output s3://models/t1`
    """
    from unet_pipeline.training.card import TrainingNote

    with request_errors(case_too=True):
        settings = settings_of(
            TrainSettings,
            images=images,
            masks=masks,
            output=output,
            network=network,
            features=numbers(features, int, "--features"),
            upsample=upsample,
            attention=attention,
            classes=classes,
            roi_size=three(roi_size),
            spacing=numbers(spacing, float, "--spacing"),
            steps=steps,
            batch=batch,
            loss={
                "name": loss,
                "class_weights": numbers(class_weights, float, "--class-weights"),
                "head_weights": numbers(head_weights, float, "--head-weights"),
                "tversky": numbers(tversky, float, "--tversky"),
            },
            optimiser={
                "name": optimiser,
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "schedule": schedule,
                "precision": precision,
            },
            augmentation=augmentation,
            flip=flip,
            holdout=holdout,
            fold=fold,
            validation={"every": validate_every, "patience": patience},
            checkpoint_every=checkpoint_every,
            resume=resume,
            seed=seed,
            threads=threads,
            memory_gb=memory_gb,
            gate={"remedies": remedies_of(remedies), "affine_voxels": tolerance},
            storage={"endpoint_url": endpoint_url, "profile": profile, "allow": allow or ()},
        )
        given = {"title": title, "data": data, "licence": licence}
        names = tuple(name.strip() for name in label_names.split(",")) if label_names else ()
        note = TrainingNote(**{k: v for k, v in given.items() if v}, label_names=names)
        report = _train(settings, note, as_json)
    raise typer.Exit(1 if report.faults else 0)


def _train(settings: TrainSettings, note: "TrainingNote", as_json: bool) -> "TrainReport":
    from unet_pipeline import console
    from unet_pipeline.training.run import train as run_training

    with console.step_progress(settings.steps) as (on_step, on_history):
        report = run_training(settings, note, on_step, on_history)
    if as_json:
        print_json(report.as_dict())
    else:
        console.print_training(report)
    return report
