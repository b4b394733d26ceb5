"""Calls as they travel: packed here, and unpacked by the worker that makes them.

The scheduler takes tasks apart to see what they depend on, and would import all that their
arguments are made of, networks too. What is packed is bytes to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from dask.task_spec import Task
from distributed import Client, Future
from distributed.protocol.pickle import dumps, loads

_importing = Lock()  # the first calls import MONAI, whose modules go round in circles: one thread


@dataclass(frozen=True)
class _Slot:
    """The place of the result of another call among arguments."""

    index: int


def packed(
    function: Callable[..., Any], arguments: Sequence[Any]
) -> tuple[bytes, list[Future[Any]]]:
    """Return a call as bytes, and the calls whose results it is to be given.

    These may be among the arguments, and in lists among them.
    """
    handles: list[Future[Any]] = []

    def put(argument: Any) -> Any:
        if not isinstance(argument, Future):
            return argument
        handles.append(argument)
        return _Slot(len(handles) - 1)

    return dumps((function, _each(put, arguments))), handles


def unpacked(data: bytes, results: Sequence[Any]) -> tuple[Callable[..., Any], list[Any]]:
    """Return the function and the arguments of a packed call."""

    def take(argument: Any) -> Any:
        return results[argument.index] if isinstance(argument, _Slot) else argument

    with _importing:
        function, arguments = loads(data)
    return function, _each(take, arguments)


def run_packed(data: bytes, *results: Any) -> Any:
    """Make a packed call; what a worker is given."""
    function, arguments = unpacked(data, results)
    return function(*arguments)


def _each(change: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
    return [
        [change(part) for part in one] if type(one) is list else change(one) for one in arguments
    ]


class Outbox:
    """Calls on their way to the scheduler, which takes many at once for little more than one.

    That of a case keeps its calls together, and sends them through one that all cases share: there
    a thread takes along what others put in while it was sending.
    """

    def __init__(self, client: Client, shared: "Outbox | None" = None) -> None:
        self._client, self._shared = client, shared
        self._calls: list[tuple[Future[Any], Task]] = []
        self._changing, self._sending = Lock(), Lock()

    def put(self, key: str, data: bytes, handles: Sequence[Future[Any]]) -> Future[Any]:
        """Put a call in; it begins once somebody sends."""
        future: Future[Any] = Future(key, self._client)
        self._add([(future, Task(key, run_packed, data, *handles))])
        return future

    def send(self) -> None:
        """Send all that is in here, or leave it to the thread that is just sending."""
        if self._shared is not None:
            self._shared._add(self._taken())
            self._shared.send()
            return
        while self._calls and self._sending.acquire(blocking=False):
            try:
                calls = self._taken()  # their futures are held until they are sent
                graph = {future.key: task for future, task in calls}
                if graph:
                    self._client.get(graph, list(graph), sync=False, fifo_timeout="0s")
            finally:
                self._sending.release()

    def empty(self) -> None:
        """Let go of what was not sent."""
        self._taken()

    def __len__(self) -> int:
        return len(self._calls)

    def _add(self, calls: Sequence[tuple[Future[Any], Task]]) -> None:
        with self._changing:
            self._calls.extend(calls)

    def _taken(self) -> list[tuple[Future[Any], Task]]:
        with self._changing:
            calls, self._calls = self._calls, []
        return calls
