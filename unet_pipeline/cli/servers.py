"""The commands that start servers: demo, up; and certificates, which lock their doors."""

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


def certificates(
    folder: Annotated[Path, typer.Argument(help="New folder for them; every node must see it.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long they hold.")] = 365,
) -> None:
    """Make the certificates that --tls takes: an authority, and a key for one Dask cluster.

    Whoever can read the folder can join the cluster, so it is readable by you alone.

    Example: `unet-pipeline certificates ~/.config/unet-pipeline/tls`
    """
    from unet_pipeline.cluster.certificates import make_certificates
    from unet_pipeline.console import out

    with request_errors():
        end = make_certificates(folder, days)
        out.print(f"Certificates in {folder}, until {end:%Y-%m-%d}", highlight=False)
