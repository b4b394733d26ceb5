"""How work ends before it is done: a signal, or whoever asked for it no longer waits.

Calls are done under a name, ``run/case``; who stops a name stops all names below it. Work looks
between windows and between slabs whether its name was stopped (``check``), and ends with a
``CaseError`` that nobody waits for. So a process has nothing under way soon after it was told.

In a process that has ``ends_by_signal`` around its work the first SIGINT, SIGTERM or SIGHUP stops
everything and raises ``Stopped`` in the main thread, which writes what was done. A second signal,
or an end that takes longer than ``END_SECONDS``, ends the process at once: only scratch is removed.
"""

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker, util
from types import FrameType
from typing import Any, NoReturn, TypeVar

from unet_pipeline.errors import CaseError, RunStopped
from unet_pipeline.logs import line
from unet_pipeline.scratch import remove_abandoned, remove_all_scratch

S = TypeVar("S")
T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_SECONDS = 8.5  # from the first signal to the end, whatever happens
CALM_SECONDS = 4.0  # in which calls that were stopped end, as a rule
CODE = "stopped"
_GO_ON = "Run the same command again to go on from what is written."
_ALL = ""
_stopped: set[str] = set()
_received: list["Stopped"] = []
_callbacks: list[Callable[[], None]] = []
_mine = threading.local()


class Stopped(BaseException):
    """Raised in the main thread by the first signal; no error, so nobody takes it for one."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def status(self) -> int:
        """The exit status that says which signal it was."""
        return 128 + self.number


def received() -> Stopped | None:
    """Return the signal that stopped this process, if one did.

    Raised in the middle of whatever the main thread does, it may be lost there, or come out as
    another error: of a lock that was being let go of, say.
    """
    return _received[0] if _received else None


def say_how_to_go_on() -> None:
    """Print what ended the command, and what to do next."""
    if (stop := received()) is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(line(f"Stopped by {stop}. {_GO_ON}"))


def by_signal(name: str) -> RunStopped:
    """Return the reason, for reports, why a run ended by a signal."""
    return RunStopped(
        CODE, found=f"the signal {name}", wanted="time until the last case",
        remedy="Start it again when there is time",
    )  # fmt: skip


def stop(name: str = _ALL) -> None:
    """Let work under a name end at its next look; without a name, all work of this process."""
    _stopped.add(name)
    if name == _ALL:
        for callback in [*_callbacks]:
            with suppress(Exception):
                callback()


def is_stopped(name: str | None = None) -> bool:
    """Say whether work under a name (default: this thread's) is to end."""
    name = current() if name is None else name
    parts = name.split("/")
    return any("/".join(parts[:n]) in _stopped for n in range(len(parts) + 1))


def current() -> str:
    """Return the name under which this thread works."""
    return getattr(_mine, "name", _ALL)


def check(name: str | None = None) -> None:
    """Look whether work under a name (default: this thread's) is to end.

    Raises
    ------
    CaseError
        ``stopped``.
    """
    if is_stopped(name):
        raise CaseError(
            CODE, found="a run that was stopped while this case was under way",
            wanted="a run to its end", remedy="Run again: cases that are finished are skipped",
        )  # fmt: skip


def under(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function under a name."""
    before, _mine.name = current(), name
    try:
        return function(*arguments)
    finally:
        _mine.name = before


@contextmanager
def on_stop(callback: Callable[[], None]) -> Iterator[None]:
    """Have ``callback`` called when all work of this process is stopped."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


@contextmanager
def pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads whose end waits for them, but not where all work was stopped.

    A signal that somebody else handles (Prefect, who cancels a run) stops all work.
    """
    opened = ThreadPoolExecutor(threads)
    try:
        yield opened
    except (Exception, GeneratorExit):
        raise
    except BaseException:
        stop()
        raise
    finally:
        opened.shutdown(wait=not is_stopped(_ALL), cancel_futures=True)


def as_ready(threads: int, call: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Make a call for each item, several at once, and yield what they return as it is ready.

    Raises
    ------
    RunStopped
        Behind what those return that were under way; no further one is begun.
    """
    stopped = None
    with pool(threads) as opened:
        futures = [opened.submit(call, item) for item in items]
        for future in as_completed(futures):
            if future.cancelled():
                continue
            try:
                result = future.result()
            except RunStopped as error:  # those under way end by themselves
                stopped = stopped or error
                for other in futures:
                    other.cancel()
            else:
                yield result
    if stopped is not None:
        raise stopped


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep signals from the threads and processes that are started in the block.

    A terminal sends Ctrl-C to all processes that it started, workers too; ``timeout``, systemd and
    Slurm do so with SIGTERM. Workers inherit that the signals are held back, from their first
    moment on; who started them decides when they end. Handlers of this process stay as they were:
    dask-jobqueue takes Ctrl-C for its own when it is imported.
    """
    held = set(SIGNALS)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    resource_tracker.ensure_running()  # it holds them back, too, and lets its starter take them
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """Let the first signal raise ``Stopped`` here, in the main thread, and the second end it all.

    A thread of its own counts the signals: a handler of Python waits until the main thread comes
    back from whatever it computes.
    """
    with ExitStack() as stack:
        receiving, sending = (stack.enter_context(end) for end in socket.socketpair())
        sending.setblocking(False)
        raised = False

        def once(number: int, _frame: FrameType | None) -> None:
            nonlocal raised
            if not raised:
                raised = True
                _stopped.add(_ALL)  # those who are told follow (_count); this thread waits for none
                _received.append(Stopped(number))
                raise _received[0]

        for number in SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, once))
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(sending.fileno()))
        threading.Thread(target=_count, args=(receiving,), name="signals", daemon=True).start()
        yield


def _count(receiving: socket.socket) -> None:
    """Stop all work at the first signal, and end the process at the second or after a while."""
    with suppress(OSError):
        while (data := receiving.recv(1)) and data[0] not in SIGNALS:
            pass
        if not data:
            return
        deadline = time.monotonic() + END_SECONDS
        threading.Thread(target=stop, name="stop", daemon=True).start()
        receiving.settimeout(END_SECONDS)
        number = data[0]
        while time.monotonic() < deadline:
            receiving.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                more = receiving.recv(1)
            except TimeoutError:
                break
            if not more:
                return
            if more[0] in SIGNALS:
                break
        say_how_to_go_on()
        end_now(128 + number)


def end_calmly(status: int) -> NoReturn:
    """End this process: threads that still work have a moment to do so, scratch is removed."""
    wait_for_calls()
    end_now(status)


def wait_for_calls() -> None:
    """Wait a moment for the threads whose calls were stopped; nothing where none was."""
    deadline = time.monotonic() + (CALM_SECONDS if is_stopped(_ALL) else 0)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(deadline - time.monotonic(), 0))


def end_now(status: int) -> NoReturn:
    """End this process and those that it started, without waiting for anything."""
    for child in multiprocessing.active_children():
        child.kill()
    for child in multiprocessing.active_children():
        child.join(1)  # the locks of its scratch are free when it is gone
    remove_all_scratch()
    remove_abandoned()
    if "multiprocessing.forkserver" in sys.modules:  # the folder of its address
        shutil.rmtree(util.get_temp_dir(), ignore_errors=True)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
