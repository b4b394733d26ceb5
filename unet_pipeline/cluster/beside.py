"""A call in a process of its own: what it imports and takes is gone with it."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeVar

from unet_pipeline.errors import RequestError
from unet_pipeline.private import keep_to_ourselves
from unet_pipeline.processes import guard_logs, lasting_imports, prepare_process

_PACKAGE = "unet_pipeline"
_T = TypeVar("_T")


def call_beside(function: Callable[..., _T], *arguments: Any, copies: bool) -> _T:
    """Return what a function returns in a process of its own; its log lines come out here.

    Parameters
    ----------
    copies
        Whether this process starts workers that are copies of one: then this is a copy, too.

    Raises
    ------
    RequestError
        ``opening_failed`` if the process ends without an answer. All that the function raises.
    """
    method = "spawn"
    if copies:
        from unet_pipeline.cluster import forking  # imports Dask

        method = forking.use_copies()
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    level = logging.getLogger(_PACKAGE).getEffectiveLevel()
    words = (theirs, dict(os.environ), level, function, arguments)
    process = context.Process(target=_answer, args=words, daemon=True)  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    try:
        lines, error, result = ours.recv()
    except (EOFError, OSError):
        process.join()
        raise RequestError(
            "opening_failed",
            found=f"a process that opens the model, and ended with status {process.exitcode}",
            wanted="its answer",
            remedy="If that is -9, the system ended it for want of memory: take a machine that has "
            "more, or a smaller network",
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()
    for line in lines:
        logging.getLogger(line.name).handle(line)
    if error is not None:
        raise error
    answered: _T = result
    return answered


def _answer(
    to: Connection,
    environment: dict[str, str],
    level: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """Call the function, and send its log lines, its error or its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all: who asked ends this
    os.environ.clear()
    os.environ.update(environment)  # what was copied had that of another time
    prepare_process()
    guard_logs()
    keep_to_ourselves()
    lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logger = logging.getLogger(_PACKAGE)
    logger.setLevel(level)
    logger.addHandler(QueueHandler(lines))
    logger.propagate = False
    error, result = None, None
    try:
        with lasting_imports():
            result = function(*arguments)
    except Exception as raised:  # it is raised where it was asked
        error = raised
    to.send(([lines.get() for _ in range(lines.qsize())], error, result))
    to.close()
