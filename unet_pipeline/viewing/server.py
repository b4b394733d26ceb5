"""The viewer's application, served on loopback until Ctrl-C."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from unet_pipeline.errors import RequestError
from unet_pipeline.local.host_guard import HostGuard, origins_of
from unet_pipeline.stopping import SIGNALS
from unet_pipeline.viewing.app import Viewer

LOOPBACK = "127.0.0.1"
_CLOSING_SECONDS = 1  # for answers that are under way


def serve(viewer: Viewer, port: int, ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it.

    Parameters
    ----------
    port
        0 for a free one.
    ready
        Called with the address, as soon as it is answered.

    Raises
    ------
    RequestError
        ``port_taken``.
    """
    with _listening(port) as listening:
        chosen = listening.getsockname()[1]
        origins = origins_of(f"http://{name}:{chosen}" for name in (LOOPBACK, "localhost"))
        server = _Server(
            uvicorn.Config(
                HostGuard(viewer, origins),
                log_level="error",
                access_log=False,  # addresses hold the token
                server_header=False,
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )
        server.ready = lambda: ready(f"http://{LOOPBACK}:{chosen}/{viewer.token}/")
        server.run(sockets=[listening])
    for number in server.ended_by:
        handler = signal.getsignal(number)
        if callable(handler):  # of this process (``stopping``)
            handler(number, None)


class _Server(uvicorn.Server):
    """A server that ends by a signal between two answers, and not in the middle of one."""

    ready: Callable[[], None]

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended_by: list[int] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Note a signal; ``serve`` hands it on once all is closed."""
        before = {number: signal.signal(number, self._end) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self.ended_by.append(number)
        self.should_exit = True


def _listening(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
    except OSError as error:
        listening.close()
        raise RequestError(
            "port_taken",
            found=f"port {port} of {LOOPBACK}, which cannot be listened on ({error.strerror})",
            wanted="a free one",
            remedy="Say another --port, or none",
        ) from error
    return listening
