"""The Dask executor: calls become futures on a cluster of worker processes."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from distributed import Client, KilledWorker, wait
from distributed.client import ClosedClientError, FutureCancelledError

from unet_pipeline.cluster.executor import Handle
from unet_pipeline.errors import CaseError

POLL_SECONDS = 1.0  # a cancelled flow or Ctrl-C is noticed within this time


@dataclass(frozen=True)
class DaskExecutor:
    """Runs calls on the workers of a Dask client.

    Attributes
    ----------
    threads
        Calls that a worker runs at a time.
    deadline
        Moment of ``time.monotonic`` at which waiting ends with ``time_limit``; None for never.
    """

    client: Client
    workers: int
    threads: int = 2
    deadline: float | None = None

    def with_time_limit(self, seconds: float) -> "DaskExecutor":
        """Return an executor of the same client whose waits end ``seconds`` from now."""
        return replace(self, deadline=monotonic() + seconds)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Start a call on a worker; results of calls among the arguments stay on the workers."""
        try:
            return self.client.submit(function, *arguments, pure=False)
        except ClosedClientError as error:
            raise _cluster_closed() from error

    def result(self, handle: Handle) -> Any:
        """Wait for a call, in short steps, and return its result or raise its error.

        Fetching the result has no time limit: distributed fails if one ends in the middle of it.
        """
        try:
            while _wait_briefly([handle]):
                self._check_deadline()
            return handle.result()
        except CaseError:
            raise
        except Exception as error:
            if self.client.status in {"closing", "closed"}:  # whatever it then says
                raise _cluster_closed() from error
            if isinstance(error, (KilledWorker, FutureCancelledError)):
                raise _worker_lost() from error
            raise

    def wait_for_room(self, handles: Sequence[Handle], limit: int) -> list[Handle]:
        """Wait until fewer than ``limit`` of these futures are unfinished; return those."""
        unfinished = [handle for handle in handles if not handle.done()]
        while len(unfinished) >= limit:
            self._check_deadline()
            unfinished = _wait_briefly(unfinished)
        return unfinished

    def _check_deadline(self) -> None:
        if self.deadline is not None and monotonic() > self.deadline:
            raise CaseError(
                "time_limit",
                found="a case that is not finished within its time limit",
                wanted="an end in time",
                remedy="Raise the limit (--case-minutes), or look for a stalled worker",
            )


def _worker_lost() -> CaseError:
    return CaseError(
        "worker_lost",
        found="workers that died while they worked on this case",
        wanted="a worker that finishes it",
        remedy="Look at the workers' memory and logs; a smaller --tile needs less",
    )


def _cluster_closed() -> CaseError:
    return CaseError(
        "cluster_closed",
        found="a cluster that was closed before this case was finished",
        wanted="a cluster until the last case",
        remedy="Run again: cases that are finished are skipped",
    )


def _wait_briefly(futures: list[Handle]) -> list[Handle]:
    with suppress(TimeoutError):
        wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
    return [future for future in futures if not future.done()]
