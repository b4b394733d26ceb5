"""Where a run's lines go when the worker that reads them is gone.

A worker reads what its runs say through a pipe. With the worker the pipe ends, and Prefect's own
handler would end the run at its next line.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

from prefect.logging.handlers import PrefectConsoleHandler

LOG = "worker.log"


class LastingHandler(PrefectConsoleHandler):
    """Writes to the worker while it is there, and to its log file from then on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            super().emit(record)
        except SystemExit:  # by rich, of a pipe that nobody reads
            _turn_to(_log_file())
            self.console.quiet = False
            with suppress(SystemExit):
                self.console.print(end="")  # what it could not write it has kept


def _log_file() -> str:
    """Return the log of the worker, as ``unet-pipeline up`` has it, or the file that takes all."""
    file = Path(os.environ.get("PREFECT_HOME", ""), LOG)
    return str(file) if file.is_file() else os.devnull


def _turn_to(file: str) -> None:
    """Let standard output and error of this process, and of those that it starts, go to a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
