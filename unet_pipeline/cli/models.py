"""The command networks: what networks cost."""

from typing import Annotated, get_args

import typer

from unet_pipeline.choices import NetworkName
from unet_pipeline.cli.common import numbers, print_json, request_errors
from unet_pipeline.cli.options import Json


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
        widths = numbers(features, int, "--features")
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
