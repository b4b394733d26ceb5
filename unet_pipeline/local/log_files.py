"""Log files that stay small, though processes append to them for months."""

import os
import shutil
from pathlib import Path

MOST_BYTES = 16 * 2**20
KEPT = 3


def bound(file: Path, most: int = MOST_BYTES, kept: int = KEPT) -> None:
    """Move what a log file holds to ``<name>.1`` once it is too large, and the older ones on.

    It is copied and emptied in place: who writes to it has it open, and appends to its end. A line
    that is written between the two is lost.

    Parameters
    ----------
    most
        Bytes from which on it is too large.
    kept
        How many older ones stay.
    """
    if not file.exists() or file.stat().st_size <= most:
        return
    names = [file.with_name(f"{file.name}.{number}") for number in range(1, kept + 1)]
    for older, newer in zip(reversed(names), [*reversed(names[:-1])], strict=False):
        if newer.exists():
            newer.replace(older)
    names[0].unlink(missing_ok=True)
    descriptor = os.open(names[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with file.open("rb") as source, os.fdopen(descriptor, "wb") as copy:
        shutil.copyfileobj(source, copy)
    os.truncate(file, 0)
