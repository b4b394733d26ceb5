"""A Prefect server whose database is busy is asked again, for a while."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from unet_pipeline.errors import RequestError
from unet_pipeline.local import prefect_api
from unet_pipeline.local.host_guard import App, Message
from unet_pipeline.local.password import Password
from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.local.retry import RetryWhenBusy


@contextmanager
def answering(*statuses: HTTPStatus) -> Iterator[tuple[PrefectApi, list[HTTPStatus]]]:
    """Serve these answers one after the other, the last for ever; note what was answered."""
    answered: list[HTTPStatus] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = statuses[min(len(answered), len(statuses) - 1)]
            answered.append(status)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"[7]")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        password = Password("admin:anything", None, made=False)
        yield PrefectApi(url=url, home=Path(), password=password), answered
        server.shutdown()


BUSY, OK = HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.OK


def test_a_busy_server_is_asked_again():
    with answering(BUSY, BUSY, OK) as (server, answered):
        assert server.api("/anything") == [7]
    assert answered == [BUSY, BUSY, OK]


@pytest.mark.parametrize("silent", [1, 99])
def test_a_server_that_does_not_answer_is_asked_again_for_a_while(monkeypatch, silent):
    monkeypatch.setattr(prefect_api, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(prefect_api, "BUSY_PAUSES", (0, 0, 0))
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        password = Password("admin:anything", None, made=False)
        server = PrefectApi(url=url, home=Path(), password=password)

        def take() -> None:
            with suppress(OSError):  # of the end
                while True:
                    taken.append(listening.accept()[0])
                    if len(taken) > silent:
                        taken[-1].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[7]")

        Thread(target=take, daemon=True).start()
        if silent < len(prefect_api.BUSY_PAUSES):
            assert server.api("/anything") == [7]
        else:
            with pytest.raises(RequestError, match="no answer to /anything"):
                server.api("/anything")
    for one in taken:
        one.close()
    assert len(taken) > min(silent, 3)


def test_a_server_that_stays_busy_is_a_fault(monkeypatch):
    monkeypatch.setattr(prefect_api, "BUSY_PAUSES", (0.01, 0.01))
    with answering(BUSY) as (server, answered), pytest.raises(RequestError, match="503"):
        server.api("/anything")
    assert len(answered) == 3


def test_other_faults_are_not_asked_again():
    with (
        answering(HTTPStatus.UNPROCESSABLE_ENTITY, OK) as (server, answered),
        pytest.raises(RequestError, match="422"),
    ):
        server.api("/anything")
    assert len(answered) == 1


def behind(*statuses: int) -> tuple[App, list[tuple[int, bytes]]]:
    """Return an application with these answers, the last for ever, and what it saw of requests."""
    seen: list[tuple[int, bytes]] = []

    async def app(scope, receive, send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        status = statuses[min(len(seen), len(statuses) - 1)]
        seen.append((status, body))
        scope["path"] = "spoilt"  # as routers do to a scope
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"busy" if status == BUSY else b"made"})
        if status >= BUSY:
            raise OSError("database is locked")  # as Starlette raises it, for the log

    return app, seen


def asked(app: App, method: str = "POST") -> list[Message]:
    """Put a request in two parts to an application that waits for a busy one; return its answer."""
    parts = iter([(b"begin ", True), (b"end", False)])
    answer: list[Message] = []

    async def receive() -> Message:
        body, more = next(parts)
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(message: Message) -> None:
        answer.append(message)

    scope = {"type": "http", "method": method, "path": "/api/flow_runs/"}
    asyncio.run(RetryWhenBusy(app, pauses=(0.01, 0.01))(scope, receive, send))
    return answer


def test_a_click_is_put_again_and_answered_once():
    app, seen = behind(BUSY, BUSY, HTTPStatus.CREATED)
    start, body = asked(app)
    assert (start["status"], body["body"]) == (201, b"made")
    assert [request for _, request in seen] == [b"begin end"] * 3


def test_a_database_that_stays_busy_is_said_at_last():
    app, seen = behind(BUSY)
    with pytest.raises(OSError, match="locked"):
        asked(app)
    assert len(seen) == 3


def test_reading_and_probes_are_answered_at_once():
    app, seen = behind(BUSY)
    with pytest.raises(OSError, match="locked"):
        asked(app, "GET")
    assert len(seen) == 1


def test_other_answers_are_handed_on_as_they_come():
    app, seen = behind(HTTPStatus.UNPROCESSABLE_ENTITY, OK)
    assert asked(app)[0]["status"] == 422
    assert len(seen) == 1
