"""The commands that start servers: demo, up; and certificates for TLS between processes of Dask."""

from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.cli.common import request_errors
from unet_pipeline.cli.up_options import (
    ClusterAddress,
    Endpoint,
    File,
    Home,
    LinkBase,
    LinkHours,
    MetricsFolder,
    NotifyBlock,
    NotifyFactor,
    NotifyHours,
    NotifyShare,
    OnArrival,
    Port,
    Prefix,
    Profile,
    Status,
    Trust,
)
from unet_pipeline.storage.links import BASE, HOURS
from unet_pipeline.watching.places import FILE


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
    home: Home = None,
    port: Port = None,
    status: Status = False,
    trust: Trust = [],  # noqa: B006  typer copies it, and those below
    prefix: Prefix = [],  # noqa: B006
    endpoint: Endpoint = [],  # noqa: B006
    profile: Profile = [],  # noqa: B006
    cluster: ClusterAddress = [],  # noqa: B006
    file: File = [],  # noqa: B006
    notify: NotifyBlock = None,
    notify_share: NotifyShare = 0.1,
    notify_factor: NotifyFactor = 2.0,
    on_arrival: OnArrival = None,
    notify_hours: NotifyHours = 12.0,
    link_base: LinkBase = [],  # noqa: B006
    link_hours: LinkHours = None,
    metrics: MetricsFolder = None,
) -> None:
    """Start a local Prefect server and worker, and register the deployments. Ctrl-C ends it.

    The page asks for a password, which is made and shown at the first start. Runs may name only
    what you allow here or in the environment.
    """
    from unet_pipeline.jobs.up import print_status, run_up
    from unet_pipeline.local.notifications import Notify

    allow = {
        "trust": trust, "prefix": prefix, "endpoint": endpoint, "profile": profile,
        "cluster": cluster, "file": file,
    }  # fmt: skip
    with request_errors():
        quiet = None if on_arrival is None else _quiet(on_arrival)
        told = None if notify is None else Notify(notify, notify_share, notify_factor, notify_hours)
        more = {BASE: ",".join(link_base)} if link_base else {}
        more |= {} if link_hours is None else {HOURS: str(link_hours)}
        more |= {} if metrics is None else {FILE: str(metrics.resolve())}
        raise typer.Exit(
            print_status(home) if status else run_up(home, port, allow, told, more, quiet)
        )


def _quiet(text: str) -> float:
    from unet_pipeline.durations import seconds_of

    try:
        return seconds_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--on-arrival") from error


def arrived(
    images: Annotated[
        str, typer.Argument(help="URL or folder of the scans: what segment would be given.")
    ],
    home: Annotated[
        Path | None, typer.Option(help="Folder of the server that up runs. Default: as up's.")
    ] = None,
) -> None:
    """Say that scans have arrived, so that `up --on-arrival` segments them.

    To be called for each file or scan by what brings them. The server is that of
    PREFECT_API_URL and PREFECT_API_AUTH_STRING, or the one that `up` runs here.

    Example: `unet-pipeline arrived s3://scans/incoming/`
    """
    from unet_pipeline.jobs.up import run_arrived

    with request_errors():
        run_arrived(images, home)


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
