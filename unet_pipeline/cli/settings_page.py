"""The tables of ``docs/settings.md``: ``python -m unet_pipeline.cli.settings_page FILE``."""

import sys
from collections.abc import Iterator
from pathlib import Path

from unet_pipeline.config import COMMANDS
from unet_pipeline.config.options import Setting, settings_in

MARK = "<!-- What follows is made by `make settings` -->\n"


def page(text: str) -> str:
    """Return the page with its tables anew: one for each panel of ``--help``."""
    panels: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for command, model in COMMANDS.items():
        for one in settings_in(model):
            rows = panels.setdefault(one.panel or "The request", {})
            rows.setdefault(_row(one), []).append(command)
    tables = [line for title, rows in panels.items() for line in _section(title, rows)]
    return text.partition(MARK)[0] + MARK + "\n".join(tables)


def _row(one: Setting) -> tuple[str, ...]:
    option = one.metavar if one.argument else f"--{one.option}"
    values = "true|false" if one.is_flag else "" if one.argument else one.metavar
    default = "required" if one.is_required else (one.spelled_default or "")
    default = default.lower() if one.is_flag else default
    return f"`{option}`", f"`{one.key}`", _code(values), _code(default), one.help


def _section(title: str, rows: dict[tuple[str, ...], list[str]]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield "| option | in a file | value | default | of | says |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for (option, key, values, default, text), commands in rows.items():
        of = "all" if len(commands) == len(COMMANDS) else ", ".join(commands)
        cells = (option, key, values, default, of, text)
        yield f"| {' | '.join(map(_cell, cells))} |"


def _code(text: str) -> str:
    return text if text in ("", "required") else f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(page(file.read_text()))
