"""Arrays in scratch that another host has: how this process asks for them.

A worker of a cluster says here how it reaches the others; a process of no cluster reaches nobody.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy.typing as npt

from unet_pipeline.errors import CaseError

Range = tuple[int, int, int]  # the first index along an axis, the one after the last, the step


class Reach(Protocol):
    """The way of a worker to the others."""

    @property
    def address(self) -> str:
        """Under which the others reach this one."""

    def read(
        self, keeper: str, scratch: str, name: str, ranges: Sequence[Range]
    ) -> npt.NDArray[Any] | None:
        """Read a part of an array that lies with ``keeper``; None where it lies there no more.

        Raises
        ------
        OSError
            Where ``keeper`` does not answer.
        """

    def remove(self, keeper: str, scratch: str, name: str) -> None:
        """Remove an array that lies with ``keeper``.

        Raises
        ------
        OSError
            Where ``keeper`` does not answer.
        """


_reaches: list[Reach] = []  # of this process: one or none


def set_reach(reach: Reach) -> None:
    """Say how this process reaches the others."""
    _reaches[:] = [reach]


def own_address() -> str | None:
    """Return under which others reach this process; None where nobody does."""
    return _reaches[0].address if _reaches else None


def read_from(
    keeper: str | None, scratch: str, name: str, ranges: Sequence[Range]
) -> npt.NDArray[Any]:
    """Read a part of an array that does not lie here.

    Raises
    ------
    CaseError
        ``scratch_lost``.
    """
    found, why = None, "nobody who keeps it"
    if _reaches and keeper is not None and keeper != own_address():
        try:
            found, why = _reaches[0].read(keeper, scratch, name, ranges), "removed there"
        except OSError as error:
            why = type(error).__name__
    if found is None:
        raise CaseError(
            "scratch_lost",
            found=f"decoded voxels or labels that cannot be had ({keeper}: {why})",
            wanted="the host that keeps them, until the case is finished",
            remedy="Look at the log and the network of that host; the case is tried again. With "
            "--scratch in a folder that all hosts see, a case needs none of them",
        )
    return found


def remove_from(keeper: str | None, scratch: str, name: str) -> None:
    """Remove an array that does not lie here; where it cannot be, it ends with its case."""
    if _reaches and keeper is not None and keeper != own_address():
        with suppress(OSError):
            _reaches[0].remove(keeper, scratch, name)
