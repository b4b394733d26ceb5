"""The options of ``up``: where it is, what runs may name, who is told, links, metrics."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unet_pipeline.config.allowed import VARIABLE
from unet_pipeline.storage.links import BASE, HOURS, MOST_HOURS

_ALLOWED, _LINKS = "What runs may name", "Links for a browser"


def _allow(kind: str, metavar: str, what: str) -> Any:
    names = f"{what} Repeat it for more; also {VARIABLE[kind]}, with commas."
    return typer.Option(f"--allow-{kind}", metavar=metavar, help=names, rich_help_panel=_ALLOWED)


Home = Annotated[Path | None, typer.Option(help="Folder of the server's database and logs.")]
Port = Annotated[int | None, typer.Option(help="Port of the Prefect page.")]
Status = Annotated[
    bool, typer.Option("--status", help="Only say what runs; exit status 0 if it serves.")
]
Trust = Annotated[
    list[str],
    _allow("trust", "BUNDLE", "Bundle whose own code runs may run: its URL, or sha256:..."),
]
Prefix = Annotated[
    list[str],
    _allow(
        "prefix",
        "URL|FOLDER",
        "Where images, masks, bundles and outputs may lie. Default: s3://, your home folder "
        "and this one.",
    ),
]
Endpoint = Annotated[list[str], _allow("endpoint", "URL", "S3 server, beside AWS_ENDPOINT_URL.")]
Profile = Annotated[
    list[str], _allow("profile", "NAME", "Profile of AWS keys, beside AWS_PROFILE.")
]
ClusterAddress = Annotated[
    list[str], _allow("cluster", "ADDRESS", "Dask scheduler, such as tcp://host:8786.")
]
File = Annotated[list[str], _allow("file", "PATH", "Site file, or folder of certificates.")]
NotifyBlock = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE/NAME",
        help="Notification block of the page that is told of runs that fail, crash, are late, "
        "take long, do not begin or have many cases at fault, and of a night that does not "
        "start: slack-webhook/team.",
    ),
]
NotifyShare = Annotated[
    float, typer.Option(min=0, max=1, help="Share of cases at fault that is many.")
]
NotifyFactor = Annotated[
    float, typer.Option(min=0, help="Times what was expected of a run that are late.")
]
NotifyHours = Annotated[float, typer.Option(min=0.01, help="Hours that are long.")]
OnArrival = Annotated[
    str | None,
    typer.Option(
        metavar="10m|30s",
        help="Segment what `unet-pipeline arrived` names, once it was quiet about it so long.",
    ),
]
LinkBase = Annotated[
    list[str],
    typer.Option(
        "--link-base",
        metavar="[PREFIX=]URL",
        help="Web address at which a server of yours serves outputs, so that pages of runs "
        "have links to reports: it stands for s3://, or for PREFIX. Repeat it for more; also "
        f"{BASE}, with commas.",
        rich_help_panel=_LINKS,
    ),
]
LinkHours = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=MOST_HOURS,
        help="Let pages of runs have links to reports that are signed by the worker's keys: "
        f"whoever has one reads that file without keys, for so many hours. Also {HOURS}.",
        rich_help_panel=_LINKS,
    ),
]
MetricsFolder = Annotated[
    Path | None,
    typer.Option(
        "--metrics-folder",
        metavar="FOLDER",
        help="Write Prometheus metrics of runs of segment there, a file for each deployment: "
        "nightly.prom, on-demand.prom.",
    ),
]
