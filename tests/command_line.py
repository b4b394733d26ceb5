"""The command line, as a process of its own or, much faster, in this one."""

import os
import subprocess
import sys
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


def cli_process(*arguments: Any) -> Done:
    """Run a command as its users do."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "unet_pipeline", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **WIDTH, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=250,
    )
