"""The Dask executor: calls become futures on a cluster of worker processes."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait as wait_for_threads
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from time import sleep
from typing import Any, Self
from uuid import uuid4

from distributed import CancelledError, Client, KilledWorker, wait
from distributed.comm.core import CommClosedError

from unet_pipeline import logs, stopping
from unet_pipeline.cluster.calls import Outbox, packed
from unet_pipeline.cluster.case_calls import CaseCalls, run_within
from unet_pipeline.cluster.executor import Handle
from unet_pipeline.cluster.monitor import ClusterMonitor
from unet_pipeline.errors import CaseError, PipelineError

SENT_AT_ONCE = 32  # calls of a case: those of some tiles
POLL_SECONDS = 1.0  # a cancelled flow or Ctrl-C is noticed within this time


@dataclass(frozen=True)
class DaskExecutor:
    """Runs calls on the workers of a Dask client.

    Each call and each wait raises ``RunStopped`` where the cluster is lost.

    Attributes
    ----------
    monitor
        Looks whether the cluster is still there, and what runs on it.
    outbox
        Calls that are not sent yet.
    threads
        Calls that a worker runs at a time.
    call_bytes
        What each of them may take of its memory; None for as much as it likes.
    case
        The calls of the case that this executor is for.
    name
        Name under which workers do these calls (``stopping.py``).
    connection
        To the scheduler, as it was when the case began.
    """

    client: Client
    monitor: ClusterMonitor
    workers: int
    outbox: Outbox
    threads: int = 2
    call_bytes: int | None = None
    case: CaseCalls | None = None
    name: str = field(default_factory=lambda: uuid4().hex)
    connection: Any = None

    @classmethod
    def of(
        cls,
        client: Client,
        monitor: ClusterMonitor,
        workers: int,
        threads: int,
        call_bytes: int | None = None,
    ) -> Self:
        """Return the executor of a client, for all cases."""
        return cls(client, monitor, workers, Outbox(client), threads, call_bytes)

    def for_case(self, seconds: float) -> "DaskExecutor":
        """Return an executor for one case, whose calls may take ``seconds`` while they run."""
        calls = CaseCalls(self.client, self.monitor, seconds, self.threads)
        outbox = Outbox(self.client, shared=self.outbox)
        return replace(self, case=calls, outbox=outbox, connection=self.client.scheduler_comm)

    def give_up(self) -> None:
        """Let go of the calls of a case that are not finished, so that they take no slot."""
        if self.case is not None and self.client.status == "running" and self.monitor.lost is None:
            self.outbox.empty()
            self.case.give_up()

    def stop(self) -> None:
        """Let calls that workers have under way end at their next look."""
        self.client.run(_stop_there, self.name, wait=False)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Start a call on a worker; results of calls among the arguments stay on the workers.

        Calls of a case leave together, at the latest when one of them is waited for.
        """
        self.monitor.check()
        with self._named_errors():
            call: tuple[Any, ...] = (function, *arguments)
            if self.case is not None:
                call = (run_within, self.case.seconds, *call)
            data, handles = packed(stopping.under, (self.name, logs.under, logs.about_now(), *call))
            future = self.outbox.put(_key_of(function), data, handles)
            if self.case is None or len(self.outbox) >= SENT_AT_ONCE:
                self.outbox.send()
        if self.case is not None:
            self.case.add(future)
        return future

    def result(self, handle: Handle) -> Any:
        """Wait for a call, in short steps, and return its result or raise its error."""
        with self._named_errors():
            self.outbox.send()
            self._wait_for(handle)
            return self._fetch(handle)

    def everywhere(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in each worker process, beside its calls; wait at most ``seconds``.

        Workers that do not answer in time do so later, or are gone.
        """
        self.monitor.check()
        loop: Any = self.client.loop

        async def call_all() -> None:
            await self.client.run(_beside, function, *arguments, on_error="ignore")

        calls = asyncio.run_coroutine_threadsafe(call_all(), loop.asyncio_loop)
        try:
            with self._named_errors(), suppress(TimeoutError):
                calls.result(timeout=seconds)
        finally:
            calls.cancel()

    def wait_for_room(self, handles: Sequence[Handle], limit: int) -> list[Handle]:
        """Wait until fewer than ``limit`` of these futures are unfinished; return those."""
        self.monitor.check()  # calls that were let go of count as finished
        unfinished = [handle for handle in handles if not handle.done()]
        with self._named_errors():
            while len(unfinished) >= limit:
                self.outbox.send()
                self._check()
                unfinished = _wait_briefly(unfinished)
        return unfinished

    def _wait_for(self, handle: Handle) -> None:
        """Wait until a call has ended; the loop of the client is asked once, and not each second.

        By Dask's callbacks a thread would stay behind that the end of this process waits for.
        """
        if self.client.status != "closed" and not handle.done():
            loop: Any = self.client.loop
            ending = asyncio.run_coroutine_threadsafe(handle._state.wait(), loop.asyncio_loop)
            try:
                while not wait_for_threads([ending], timeout=POLL_SECONDS).done:
                    self._check()
                    if self.client.status == "closed":  # and says so of no call any more
                        break
            finally:
                ending.cancel()
        if self.client.status == "closed" or handle.cancelled():
            raise CancelledError(handle.key)

    def _fetch(self, handle: Handle) -> Any:
        """Fetch a result. It has no time limit: distributed fails if one ends in the middle."""
        loop: Any = self.client.loop
        gathering = self.client.gather(handle, asynchronous=True)
        fetching = asyncio.run_coroutine_threadsafe(gathering, loop.asyncio_loop)
        while not fetching.done():
            wait_for_threads([fetching], timeout=POLL_SECONDS)
            self.monitor.check()
        return fetching.result()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say what it means where distributed lets go of a call."""
        try:
            yield
        except PipelineError:
            raise
        except Exception as error:
            if self._is_over():  # whatever it then says
                self.monitor.check()
                raise _cluster_closed() from error
            if self._is_cut_off(error):
                raise _scheduler_lost() from error
            if isinstance(error, (KilledWorker, CancelledError)):
                raise _worker_lost() from error
            raise

    def _is_over(self) -> bool:
        """Say whether the cluster is lost or closed; a client that looks for it is waited for."""
        while self.client.status == "connecting" and self.monitor.lost is None:
            sleep(0.1)
        if self.client.status in {"closing", "closed"}:
            while not self.monitor.is_closed and self.monitor.lost is None:
                sleep(0.1)  # the monitor will say which of the two
        return self.monitor.is_closed or self.monitor.lost is not None

    def _is_cut_off(self, error: Exception) -> bool:
        """Say whether the scheduler was lost meanwhile, and all that it knew; another is there."""
        if isinstance(error, (CommClosedError, ConnectionError)):
            return True
        cancelled = isinstance(error, CancelledError)
        return cancelled and self.connection not in (None, self.client.scheduler_comm)

    def _check(self) -> None:
        self.monitor.check()
        if self.case is not None:
            self.case.check()


def _key_of(function: Callable[..., Any]) -> str:
    """Return a new key that begins with the name of a function, for Dask's dashboard."""
    return f"{getattr(function, '__name__', 'call')}-{uuid4().hex}"


async def _stop_there(name: str) -> None:
    """Stop a name on a worker; Dask waits for no answer of a coroutine."""
    stopping.stop(name)


async def _beside(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function beside the loop of a worker."""
    await asyncio.to_thread(function, *arguments)


def _worker_lost() -> CaseError:
    return CaseError(
        "worker_lost",
        found="workers that died while they worked on this case",
        wanted="a worker that finishes it",
        remedy="Look at the workers' memory and logs; a smaller --tile needs less",
    )


def _scheduler_lost() -> CaseError:
    return CaseError(
        "scheduler_lost",
        found="a scheduler that was lost while this case was under way, and all that it knew",
        wanted="a scheduler that stays",
        remedy="Look at its log, then run again: cases that are finished are skipped",
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
