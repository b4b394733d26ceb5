"""The command line: the same settings objects as the flow, filled from options.

Exit status: 0 all cases done, 1 the run finished and some case was quarantined (or failed the
check), 2 the request itself was wrong (said in one line, before any work).
"""

import gc
import logging
import sys
from typing import Annotated

import typer

from unet_pipeline import __version__
from unet_pipeline.cli import bundles, cohorts, layers, models, plans, selection, servers, train
from unet_pipeline.processes import prepare_process

app = typer.Typer(
    name="unet-pipeline",
    help="Segment archives of medical volumes with U-Net and UNet++ on a Dask cluster.",
    epilog="Exit status: 0 all cases done; 1 some case was quarantined; 2 the request was wrong.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (
    cohorts.segment,
    plans.plan,
    cohorts.check,
    train.train,
    models.networks,
    selection.depths,
    selection.compare,
    layers.layers,
    servers.demo,
    servers.up,
    servers.certificates,
):
    app.command()(command)
app.add_typer(bundles.app, name="bundle")


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
    prepare_process()
    try:
        app()
    finally:
        gc.freeze()  # or Python looks for cycles in all of torch before it ends, for a second
