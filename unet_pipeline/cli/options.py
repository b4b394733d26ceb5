"""Options that are no settings: how much is shown, as what, and where a run is watched."""

from typing import Annotated

import typer

from unet_pipeline.watching.places import FILE, PORT

ListFiles = Annotated[
    bool,
    typer.Option("--list", help="Show what each file was taken for, and why, and do no more."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")]
MetricsPort = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST:]PORT",
        envvar=PORT,
        help="Serve Prometheus metrics of the run while it is on; on loopback without a host.",
        rich_help_panel="Watching",
    ),
]
MetricsFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.prom|FOLDER",
        envvar=FILE,
        help="Write them to a file for node_exporter's textfile collector; it stays.",
        rich_help_panel="Watching",
    ),
]
