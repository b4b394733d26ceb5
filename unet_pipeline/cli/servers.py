"""The commands that start servers: demo, up."""

from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.cli.common import request_errors


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the report and the label maps.")] = Path(
        "demo-output"
    ),
) -> None:
    """Run the main job on phantoms: a real S3 server, Prefect, Dask; nothing is left running."""
    from unet_pipeline.demo import run_demo

    with request_errors():
        raise typer.Exit(run_demo(output))


def up(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the server's database and logs.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect page.")] = None,
) -> None:
    """Start a local Prefect server and worker, and register the deployments. Ctrl-C ends it."""
    from unet_pipeline.serve import run_up

    with request_errors():
        raise typer.Exit(run_up(home, port))
