"""What the system is told of a process that runs networks on a CPU.

Idle threads of a forward pass sleep: where they spin, as is OpenMP's habit, a second process on the
same cores makes both several times slower.

Freed memory is kept for the next forward pass. A C library gives large blocks back to the system at
once, and each layer of a network then asks for them again: the system clears every page anew, which
took half of the time of a forward pass of eager PyTorch where it was measured (``docs/speed.md``).
Dask's own setting for its workers gives back even small blocks. Memory is kept up to what a forward
pass needs at most, and all threads share it.

Memory comes in pages of the usual size. NumPy asks for large ones, and a system whose memory is
scattered, as it is after hours of work, searches for room before it gives each: a gigabyte then
took 1.2 s of processor time and more, and 0.35 s in small pages.
"""

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import format_exception
from typing import Any

from unet_pipeline.logs import about_now
from unet_pipeline.texts import shown

_GIB = 2**30
_OURS = frozenset({"unet_pipeline", "unet_pipeline_flows"})  # loggers
_MALLOC_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = 1, _GIB, 2 * _GIB - 1
_PARAMETERS = {-8: _MALLOC_ARENA_MAX, -3: _MMAP_THRESHOLD, -1: _TRIM_THRESHOLD}  # of mallopt

# read by OpenMP and the C library when a process starts, and by NumPy when it is imported
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "MALLOC_ARENA_MAX": str(_MALLOC_ARENA_MAX),
    "MALLOC_MMAP_THRESHOLD_": str(_MMAP_THRESHOLD),
    "MALLOC_TRIM_THRESHOLD_": str(_TRIM_THRESHOLD),
    "NUMPY_MADVISE_HUGEPAGE": "0",
}


def prepare_process() -> None:
    """Say it in this process: before NumPy and torch are imported and other threads start.

    Memory is kept where the C library is glibc; nothing happens elsewhere.
    """
    guard_logs()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # for OpenMP, NumPy, and processes that start from here
    if (mallopt := _of_glibc("mallopt")) is not None:
        for parameter, number in _PARAMETERS.items():
            mallopt(parameter, number)


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Spare Python's collector what is imported here.

    Half a million objects of torch and MONAI live as long as the process. The collector would go
    through them all the time while they are made, which is a fifth of the time of their import, and
    now and then afterwards, for 0.25 s each time. Where all is imported already, nothing is done:
    what is garbage by now would be kept, too.
    """
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


def guard_logs() -> None:
    """Write the lines of our loggers with showable texts, in this process: a border like a page's.

    Lines of all loggers know what they are about, also where another process writes them.

    Whatever handler takes them, the terminal's, Dask's or Prefect's: names of files and bundles
    neither begin a line of their own nor move a cursor.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "makes_showable", False):
        return

    def showable(name: str | None, *rest: Any, **more: Any) -> logging.LogRecord:
        record = make(name, *rest, **more)
        record.run, record.case = about_now().run, about_now().case  # texts, for Dask sends them
        if name and name.partition(".")[0] in _OURS:  # makeLogRecord, of Dask too, gives none
            record.msg, record.args = shown(record.getMessage()), None
            if record.exc_info:
                lines = "".join(format_exception(record.exc_info[1])).splitlines()
                record.exc_text = "\n".join(map(shown, lines))
        return record

    showable.makes_showable = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(showable)


def give_back() -> None:
    """Give freed memory back to the system now."""
    if (trim := _of_glibc("malloc_trim")) is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """Return a function of the C library; None where it is another one."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found
