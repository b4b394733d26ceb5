"""The commands by name: the module of each is imported where it is asked for, and not for --help.

Importing all of them takes three times as long as saying what there is.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

SAID = {  # the module of each, and the first line of what it says of itself
    "segment": ("cohorts", "Segment every volume of a cohort."),
    "plan": ("plans", "Show windows, tiles, bytes, memory, time and price before anything runs."),
    "check": ("cohorts", "Check the geometry of images, and whether masks lie on them."),
    "train": (
        "train",
        "Train a network on image and mask pairs, and write it as a bundle with a model card.",
    ),
    "networks": (
        "models",
        "Show the networks and their depths: parameters, multiply-adds, memory, speed on this "
        "machine.",
    ),
    "depths": (
        "selection",
        "Score every depth of a nested U-Net on cases it was not trained on, and choose one.",
    ),
    "compare": (
        "selection",
        "Score several bundles on one cohort, test them in pairs, and show where they differ most.",
    ),
    "differences": (
        "differences",
        "Show what changed between two sets of label maps of the same cases; no masks are needed.",
    ),
    "view": (
        "view",
        "Show image and label map of each case of a run in a browser, the doubtful ones first.",
    ),
    "statistics": (
        "statistics",
        "Measure label maps that exist already, and say which of them want a look.",
    ),
    "tidy": (
        "tidy",
        "Name old folders of runs and scratch of killed ones; with `--yes`, remove them.",
    ),
    "layers": (
        "layers",
        "Look inside a network: what each layer knows, and what is lost without it.",
    ),
    "demo": (
        "servers",
        "Run the main job on phantoms: a real S3 server, Prefect, Dask; nothing is left running.",
    ),
    "up": (
        "servers",
        "Start a local Prefect server and worker, and register the deployments. Ctrl-C ends it.",
    ),
    "arrived": ("servers", "Say that scans have arrived, so that `up --on-arrival` segments them."),
    "certificates": (
        "servers",
        "Make the certificates that --tls takes: an authority, and a key for one Dask cluster.",
    ),
    "bundle": (
        "bundles",
        "Make model bundles of weights, look into them, check, convert and prune them.",
    ),
}
_OPTIONS: Mapping[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": "markdown",
    "pretty_exceptions_enable": False,
}


class _Imported(Mapping[str, Any]):
    """The commands themselves."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module = import_module(f"unet_pipeline.cli.{SAID[name][0]}")
            self._made[name] = _made(name, getattr(module, name, None) or module.app)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(SAID)

    def __len__(self) -> int:
        return len(SAID)


def _made(name: str, given: Callable[..., None] | typer.Typer) -> Any:
    """Return a command, or a group of them, as Typer makes it."""
    if isinstance(given, typer.Typer):
        app = given
    else:
        app = typer.Typer(**_OPTIONS)
        app.command(name)(given)
    made = typer.main.get_command(app)
    made.name = name
    return made


class Commands(TyperGroup):
    """A group that lists its commands without importing them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Imported()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in their order."""
        return list(SAID)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what lists show of a command: its name and its first line."""
        if cmd_name not in SAID:
            return None
        return TyperCommand(cmd_name, help=SAID[cmd_name][1], rich_markup_mode="markdown")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that words name, and the words after it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, self.commands[str(name)], rest
