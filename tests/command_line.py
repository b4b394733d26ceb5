"""The command line, as a process of its own or, much faster, in this one."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from unet_pipeline.cli import app

ROOT = Path(__file__).resolve().parents[1]
WIDTH = {"COLUMNS": "200"}
Done = subprocess.CompletedProcess[str]


def cli(*arguments: Any) -> Done:
    """Run a command in this process: the same code, without seconds of imports."""
    words = [*map(str, arguments)]
    result = CliRunner(env=WIDTH).invoke(app, words, catch_exceptions=False)
    return Done(words, result.exit_code, result.stdout, result.stderr)


def said(*arguments: Any) -> dict[str, dict[str, Any]]:
    """Run a command with ``--json``, and return what it says of each case, by name."""
    done = cli(*arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["case"]: line for line in lines if "case" in line}


def cli_process(*arguments: Any) -> Done:
    """Run a command as its users do."""
    return _python("-m", "unet_pipeline", *map(str, arguments))


def cli_in_turn(commands: Mapping[str, Sequence[str]], folder: Path) -> dict[str, Done]:
    """Run commands one after the other in one process; what they say is kept in a folder."""
    file = folder / "commands.json"
    file.write_text(json.dumps(commands))
    ran = _python(str(ROOT / "tests" / "commands_in_turn.py"), str(file), str(folder))
    assert ran.returncode == 0, ran.stderr
    codes = json.loads((folder / "codes.json").read_text())
    return {
        name: Done(
            words, codes[name], (folder / f"{name}.out").read_text(),
            (folder / f"{name}.err").read_text(),
        )
        for name, words in commands.items()
    }  # fmt: skip


def _python(*arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **WIDTH, "PYTHONPATH": f"{ROOT}:{os.environ['PYTHONPATH']}"},
        check=False,
        timeout=900,
    )
