"""The commands on models: train, bundle, networks."""

from typing import Annotated, Any, get_args

import typer

from unet_pipeline.cli.common import (
    Endpoint,
    Images,
    Json,
    Profile,
    numbers,
    print_json,
    request_errors,
    settings_of,
    three,
)
from unet_pipeline.config import NetworkName, TrainSettings


def train(
    images: Images,
    masks: Annotated[str, typer.Argument(help="Reference masks, found by name.")],
    output: Annotated[str, typer.Option(help="Folder of the bundle to write.")],
    network: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Network to train: unet, unetpp, unetplus, unete or asymmetric (see networks).",
        ),
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

    with request_errors():
        settings = settings_of(
            TrainSettings,
            images=images,
            masks=masks,
            output=output,
            network=network,
            features=numbers(features, int, "--features"),
            roi_size=three(roi_size),
            spacing=numbers(spacing, float, "--spacing"),
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


def _train(settings: TrainSettings, note: Any, as_json: bool) -> None:
    from unet_pipeline import console
    from unet_pipeline.training.run import train as run_training

    with console.step_progress(settings.steps) as progress:
        report = run_training(settings, note, on_step=lambda step, loss: progress(step, loss))
    if as_json:
        return print_json(report.as_dict())
    return console.print_training(report)


def networks(
    dims: Annotated[int, typer.Option(min=2, max=3, help="2-D or 3-D networks.")] = 3,
    features: Annotated[
        str, typer.Option(metavar="N,N,...", help="Channels of each level, shallow to deep.")
    ] = "16,32,64,128,256",
    window: Annotated[int, typer.Option(min=2, help="Voxels of a window along each axis.")] = 64,
    repeats: Annotated[
        int, typer.Option(min=0, help="Evaluations to time; 0 measures nothing.")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Show the networks and their depths: parameters, multiply-adds, memory, speed on this machine.

    Example: `unet-pipeline networks --dims 2 --features 32,64,128,256,512 --window 96`
    """
    from unet_pipeline import console
    from unet_pipeline.networks.costs import cost_rows, costs
    from unet_pipeline.networks.family import SUMMARIES, network_def
    from unet_pipeline.networks.registry import build_network, check_window

    with request_errors():
        widths = numbers(features, int, "--features") or ()
        rows = []
        for name in get_args(NetworkName):
            made = network_def(name, 1, 2, widths, spatial_dims=dims)
            check_window(made, (window,) * dims)
            with console.waiting(f"Measuring {name}"):
                found = costs(build_network(made, seed=0), (window,) * dims, 1, repeats=repeats)
            rows += cost_rows(name, found, (window,) * dims)
            for row in rows[-len(found) :]:
                print_json(row, when=as_json)
    if not as_json:
        console.out.print(console.costs_table(rows, SUMMARIES))
