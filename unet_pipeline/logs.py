"""Lines of a log: which run and case each is about, and JSON for those who collect them.

A line is about what its thread works on (``about``); calls on workers take that with them
(``under``). A line of a thread that a library started says neither.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Format = Literal["text", "json"]

VARIABLE = "UNET_PIPELINE_LOG_FORMAT"  # also of the processes that are started from here


@dataclass(frozen=True)
class About:
    """The run and the case that work is about; empty where it is about none."""

    run: str = ""
    case: str = ""


_now: ContextVar[About] = ContextVar("about", default=About())  # noqa: B039  it is frozen


def about_now() -> About:
    """Return what this thread's work is about."""
    return _now.get()


@contextmanager
def about(run: str, case: str = "") -> Iterator[None]:
    """Let lines of the block say which run, and which case, they are about."""
    token = _now.set(About(run, case))
    try:
        yield
    finally:
        _now.reset(token)


def under(what: About, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function about something; what a worker is given."""
    with about(what.run, what.case):
        return function(*arguments)


class JsonLines(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message``, and what more.

    ``run`` and ``case`` where they are known, ``flow_run`` in runs of Prefect, ``traceback``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        traceback = record.exc_text
        if traceback is None and record.exc_info:
            traceback = self.formatException(record.exc_info)
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run": getattr(record, "run", "") or _now.get().run,
            "case": getattr(record, "case", "") or _now.get().case,
            "flow_run": str(getattr(record, "flow_run_id", "")),
            "traceback": traceback,
        }
        return json.dumps({key: value for key, value in said.items() if value})


def in_json() -> bool:
    """Say whether this process, and those that it starts, write their lines as JSON."""
    return os.environ.get(VARIABLE, "").lower() == "json"


def use_json() -> None:
    """Let all handlers that write lines write them as JSON; warnings of Python become lines.

    Dask's news are left out, but where those of all libraries are asked for.
    """
    logging.captureWarnings(True)
    if not logging.root.isEnabledFor(logging.INFO):
        logging.getLogger("distributed").setLevel(logging.WARNING)
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler):
                handler.setFormatter(JsonLines())


def line(text: str) -> str:
    """Return a sentence as it is written where no logger can be asked any more."""
    if not in_json():
        return f"{text}\n"
    record = logging.LogRecord("unet_pipeline", logging.ERROR, "", 0, text, None, None)
    return f"{JsonLines().format(record)}\n"
