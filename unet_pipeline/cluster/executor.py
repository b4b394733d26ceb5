"""The executor protocol, and the serial executor: a peer of the others, not a stand-in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from unet_pipeline.clock import Clock

Handle = Any


class Executor(Protocol):
    """Runs functions, here or elsewhere."""

    @property
    def workers(self) -> int:
        """Number of worker processes."""

    @property
    def threads(self) -> int:
        """Calls that a worker runs at a time."""

    @property
    def call_bytes(self) -> int | None:
        """What a call may take of a worker's memory; None for as much as it likes."""

    def for_case(self, seconds: float) -> "Executor":
        """Return an executor of the same workers for one case, whose calls may take ``seconds``.

        They are counted where and while a call runs, and not while it waits behind others.
        """

    def give_up(self) -> None:
        """Let go of the calls of a case that are not finished, so that they take no slot."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Start a call; arguments, and lists of them, may be handles of earlier calls."""

    def result(self, handle: Handle) -> Any:
        """Wait for a call and return its result, or raise its error."""

    def everywhere(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in each worker process, beside its calls; wait at most ``seconds``."""

    def wait_for_room(self, handles: Sequence[Handle], limit: int) -> list[Handle]:
        """Wait until fewer than ``limit`` of these calls are unfinished; return those."""


@dataclass(frozen=True)
class SerialExecutor:
    """Runs each call at once, in this process; a handle is the result itself."""

    workers: int = 1
    threads: int = 1
    call_bytes: int | None = None
    clock: Clock | None = None

    def for_case(self, seconds: float) -> "SerialExecutor":
        """Return an executor whose calls share a clock."""
        return replace(self, clock=Clock(seconds))

    def give_up(self) -> None:
        """No call is left: each ends before the next begins."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Call ``function`` now."""
        if self.clock is None:
            return function(*arguments)
        with self.clock.running():
            return function(*arguments)

    def result(self, handle: Handle) -> Any:
        """Return the result, which is the handle."""
        return handle

    def everywhere(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Call ``function`` now."""
        function(*arguments)

    def wait_for_room(self, handles: Sequence[Handle], limit: int) -> list[Handle]:
        """Everything is finished already."""
        return []


def cases_at_once(executor: Executor) -> int:
    """Return how many cases to have under way, so that workers never wait for the driver."""
    return 1 if isinstance(executor, SerialExecutor) else executor.threads * executor.workers + 1
