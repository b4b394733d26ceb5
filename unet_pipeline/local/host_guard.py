"""A guard before a local web server: refuses requests under a foreign name or of a foreign page.

A browser lets any page send requests to any address, and only says from which page they come
(``Origin``). A page can also have its own name point to loopback (DNS rebinding); then the browser
takes our server for the page's own, and only ``Host`` shows it. Both are looked at here, before the
server behind sees the request.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

FORBIDDEN, MISDIRECTED = 403, 421
POLICY_VIOLATION = 1008  # of websockets
PROBES = frozenset({"/api/health", "/api/ready"})  # what Kubernetes asks, under a pod's address


@dataclass(frozen=True)
class HostGuard:
    """An ASGI application that hands on only what is meant for it.

    Attributes
    ----------
    app
        The application behind.
    origins
        Addresses under which it is reached, as browsers write them: ``http://127.0.0.1:4200``.
    """

    app: App
    origins: frozenset[str]

    @property
    def hosts(self) -> frozenset[str]:
        """What ``Host`` may say."""
        return frozenset(urlsplit(origin).netloc for origin in self.origins)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):  # the server's own start and end
            await self.app(scope, receive, send)
        elif status := self.refusal(scope):
            await _refuse(scope, receive, send, status)
        else:
            await self.app(scope, receive, send)

    def refusal(self, scope: Message) -> int:
        """Return the status that a request is refused with, or 0."""
        if scope.get("method") == "GET" and scope["path"] in PROBES:
            return 0
        if _values(scope, b"host") - self.hosts:
            return MISDIRECTED
        return FORBIDDEN if _values(scope, b"origin") - self.origins else 0


def origins_of(urls: Iterable[str]) -> frozenset[str]:
    """Return the origins of some addresses.

    >>> sorted(origins_of(["http://LocalHost:4200/api", "https://prefect.example.org/"]))
    ['http://localhost:4200', 'https://prefect.example.org']

    Raises
    ------
    ValueError
        For what is no address of a web server, such as ``*``.
    """
    found = set()
    for url in urls:
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:4200")
        found.add(f"{parts.scheme}://{parts.netloc.lower()}")
    return frozenset(found)


def _values(scope: Message, name: bytes) -> set[str]:
    """Return all values of a header; of ``Host`` the empty one if it is missing."""
    found = {value.decode("latin-1").lower() for key, value in scope["headers"] if key == name}
    return found or ({""} if name == b"host" else set())


async def _refuse(scope: Message, receive: Receive, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        return
    text = b"This server does not answer to that name.\n"
    if status == FORBIDDEN:
        text = b"This server does not answer to pages of another origin.\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
