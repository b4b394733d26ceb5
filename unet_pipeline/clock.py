"""How long a case may take: counted while it runs, and looked at between its slabs and windows.

The clock of a case runs in the thread that works on it, and is paused while that thread waits
for others. A call that cannot be ended from outside, as none in a thread can, so ends itself at
the next look.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from unet_pipeline import stopping
from unet_pipeline.errors import CaseError


class Clock:
    """Counts the seconds in which it runs, up to a limit."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds, self._spent = limit_seconds, 0.0
        self._since: float | None = None  # moment since which it runs; None while it is paused

    @property
    def seconds(self) -> float:
        """Seconds that were counted so far."""
        return self._spent + (0.0 if self._since is None else monotonic() - self._since)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run in this thread while the block lasts."""
        token, before = _current.set(self), self._since
        self._since = monotonic()
        try:
            yield
        finally:
            self._pause()
            self._since = before
            _current.reset(token)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count while the block lasts."""
        self._pause()
        try:
            yield
        finally:
            self._since = monotonic()

    def _pause(self) -> None:
        self._spent = self.seconds
        self._since = None


_current: ContextVar[Clock | None] = ContextVar("clock", default=None)


def check_time() -> None:
    """Raise if the case that this thread works on has taken its time, or is to end.

    Raises
    ------
    CaseError
        ``time_limit``, ``stopped``.
    """
    stopping.check()
    clock = _current.get()
    if clock is not None and clock.seconds > clock.limit_seconds:
        raise out_of_time()


@contextmanager
def waiting() -> Iterator[None]:
    """Do not count what this thread waits for others while the block lasts."""
    clock = _current.get()
    if clock is None:
        yield
        return
    with clock.paused():
        yield


def out_of_time() -> CaseError:
    """Return the error of a case that takes longer than it may."""
    return CaseError(
        "time_limit",
        found="a case that is not finished within its time limit",
        wanted="an end in time",
        remedy="Raise the limit (--case-minutes), or look at the case (unet-pipeline plan), and "
        "for a stalled worker",
    )
