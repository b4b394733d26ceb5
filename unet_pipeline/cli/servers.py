"""The commands that start servers: demo, up; and certificates for TLS between processes of Dask."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unet_pipeline.cli.common import request_errors
from unet_pipeline.config.allowed import VARIABLE
from unet_pipeline.storage.links import BASE, HOURS, MOST_HOURS
from unet_pipeline.watching.places import FILE

PANEL, LINKS = "What runs may name", "Links for a browser"


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the report and the label maps.")] = Path(
        "demo-output"
    ),
) -> None:
    """Run the main job on phantoms: a real S3 server, Prefect, Dask; nothing is left running."""
    from unet_pipeline.demo import run_demo

    with request_errors():
        raise typer.Exit(run_demo(output))


def _allow(kind: str, metavar: str, what: str) -> Any:
    names = f"{what} Repeat it for more; also {VARIABLE[kind]}, with commas."
    return typer.Option(f"--allow-{kind}", metavar=metavar, help=names, rich_help_panel=PANEL)


def up(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the server's database and logs.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect page.")] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only say what runs; exit status 0 if it serves.")
    ] = False,
    trust: Annotated[
        list[str],
        _allow("trust", "BUNDLE", "Bundle whose own code runs may run: its URL, or sha256:..."),
    ] = [],  # noqa: B006  typer copies it
    prefix: Annotated[
        list[str],
        _allow(
            "prefix",
            "URL|FOLDER",
            "Where images, masks, bundles and outputs may lie. Default: s3://, your home folder "
            "and this one.",
        ),
    ] = [],  # noqa: B006
    endpoint: Annotated[
        list[str], _allow("endpoint", "URL", "S3 server, beside AWS_ENDPOINT_URL.")
    ] = [],  # noqa: B006
    profile: Annotated[
        list[str], _allow("profile", "NAME", "Profile of AWS keys, beside AWS_PROFILE.")
    ] = [],  # noqa: B006
    cluster: Annotated[
        list[str], _allow("cluster", "ADDRESS", "Dask scheduler, such as tcp://host:8786.")
    ] = [],  # noqa: B006
    file: Annotated[
        list[str], _allow("file", "PATH", "Site file, or folder of certificates.")
    ] = [],  # noqa: B006
    notify: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE/NAME",
            help="Notification block of the page that is told of runs that fail, crash, are late, "
            "take long, do not begin or have many cases at fault, and of a night that does not "
            "start: slack-webhook/team.",
        ),
    ] = None,
    notify_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of cases at fault that is many.")
    ] = 0.1,
    notify_factor: Annotated[
        float, typer.Option(min=0, help="Times what was expected of a run that are late.")
    ] = 2.0,
    on_arrival: Annotated[
        str | None,
        typer.Option(
            metavar="10m|30s",
            help="Segment what `unet-pipeline arrived` names, once it was quiet about it so long.",
        ),
    ] = None,
    notify_hours: Annotated[float, typer.Option(min=0.01, help="Hours that are long.")] = 12.0,
    link_base: Annotated[
        list[str],
        typer.Option(
            "--link-base",
            metavar="[PREFIX=]URL",
            help="Web address at which a server of yours serves outputs, so that pages of runs "
            "have links to reports: it stands for s3://, or for PREFIX. Repeat it for more; also "
            f"{BASE}, with commas.",
            rich_help_panel=LINKS,
        ),
    ] = [],  # noqa: B006
    link_hours: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=MOST_HOURS,
            help="Let pages of runs have links to reports that are signed by the worker's keys: "
            f"whoever has one reads that file without keys, for so many hours. Also {HOURS}.",
            rich_help_panel=LINKS,
        ),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            "--metrics-folder",
            metavar="FOLDER",
            help="Write Prometheus metrics of runs of segment there, a file for each deployment: "
            "nightly.prom, on-demand.prom.",
        ),
    ] = None,
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
