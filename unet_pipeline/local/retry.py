"""A local web server whose database is busy: a request that it turns away (503) is put again.

Prefect answers 503 where two writes met in its SQLite file, and nothing of the request was kept.
Its own clients ask again; a browser does not, and a click on Submit would be lost.
"""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

from unet_pipeline.local.host_guard import App, Message, Receive, Send

BUSY_PAUSES = (0.2, 0.4, 0.8, 1.6, 3.2)  # seconds
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class RetryWhenBusy:
    """An ASGI application that puts writing requests again while the one behind is busy.

    Attributes
    ----------
    app
        The application behind.
    pauses
        Seconds before each further attempt; the answer to the last one is handed on as it is.
    """

    app: App
    pauses: tuple[float, ...] = BUSY_PAUSES

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, with some patience."""
        if scope["type"] != "http" or scope["method"] not in WRITING:
            await self.app(scope, receive, send)
            return
        request = await _whole(receive)
        for pause in self.pauses:
            if await self._answers(scope, request, receive, send):
                return
            await asyncio.sleep(pause)
        await self.app(dict(scope), _again(request, receive), send)

    async def _answers(
        self, scope: Message, request: list[Message], receive: Receive, send: Send
    ) -> bool:
        """Put a request once; say whether its answer was handed on."""
        busy = False

        async def unless_busy(message: Message) -> None:
            nonlocal busy
            if message["type"] == "http.response.start":
                busy = message["status"] == HTTPStatus.SERVICE_UNAVAILABLE
            if not busy:
                await send(message)

        try:
            await self.app(dict(scope), _again(request, receive), unless_busy)
        except Exception:  # which Starlette raises behind its answer, for the log
            if not busy:
                raise
        return not busy


async def _whole(receive: Receive) -> list[Message]:
    """Return all messages of a request; its last one, if whoever asked has gone."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _again(request: list[Message], receive: Receive) -> Receive:
    """Return what hands out a request from its begin, and then what comes behind it."""
    messages = iter(request)

    async def next_message() -> Message:
        message = next(messages, None)
        return await receive() if message is None else message

    return next_message
