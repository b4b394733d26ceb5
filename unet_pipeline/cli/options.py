"""Options that are no settings: how much is shown, and as what."""

from typing import Annotated

import typer

ListFiles = Annotated[
    bool,
    typer.Option("--list", help="Show what each file was taken for, and why, and do no more."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")]
