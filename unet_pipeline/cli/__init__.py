"""The command line: the same settings objects as the flow, filled from options.

Exit status: 0 all cases done, 1 the run finished and some case was quarantined (or failed the
check), 2 the request itself was wrong (said in one line, before any work), 3 the run stopped with
cases left (a fault of the store or of the cluster, ``--stop-after``; what is finished stays), 128 +
n by the signal n (130 Ctrl-C, 143 SIGTERM, 129 SIGHUP).
"""

import gc
import logging
import os
import sys
from typing import Annotated

import typer

from unet_pipeline import __version__, logs, stopping
from unet_pipeline.cli.commands import Commands
from unet_pipeline.private import keep_to_ourselves
from unet_pipeline.processes import prepare_process

app = typer.Typer(
    name="unet-pipeline",
    cls=Commands,
    help="Segment archives of medical volumes with U-Net and UNet++ on a Dask cluster.",
    epilog="Exit status: 0 all cases done; 1 some case was quarantined; 2 the request was wrong; "
    "3 the run stopped with cases left: a fault of the store or of the cluster, or --stop-after.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _options(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    log_format: Annotated[
        logs.Format,
        typer.Option(
            case_sensitive=False,
            envvar=logs.VARIABLE,
            help="json: what goes to stderr is one JSON object a line, with run and case, and says "
            "what is done.",
        ),
    ] = "text",
) -> None:
    if show_version:
        sys.stdout.write(f"unet-pipeline {__version__}\n")
        raise typer.Exit
    is_json = log_format == "json"
    level = logging.INFO if verbose else logging.WARNING if is_json else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    os.environ[logs.VARIABLE] = log_format
    if is_json:
        logging.getLogger("unet_pipeline").setLevel(logging.INFO)
        logs.use_json()


def main() -> None:
    """Run the command line."""
    prepare_process()
    keep_to_ourselves()
    with stopping.ends_by_signal():
        try:
            app()
        except BaseException:
            stop = stopping.received()
            if stop is None:
                raise
            stopping.say_how_to_go_on()
            stopping.end_calmly(stop.status)
        finally:
            gc.freeze()  # or Python looks for cycles in all of torch before it ends, for a second
