"""A Prefect server whose database is busy is asked again, for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from unet_pipeline.errors import RequestError
from unet_pipeline.local import prefect_server
from unet_pipeline.local.password import Password
from unet_pipeline.local.prefect_server import PrefectServer


@contextmanager
def answering(*statuses: HTTPStatus) -> Iterator[tuple[PrefectServer, list[HTTPStatus]]]:
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
        yield PrefectServer(url, {}, Path(), psutil.Process(os.getpid()), password), answered
        server.shutdown()


BUSY, OK = HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.OK


def test_a_busy_server_is_asked_again():
    with answering(BUSY, BUSY, OK) as (server, answered):
        assert server.api("/anything") == [7]
    assert answered == [BUSY, BUSY, OK]


def test_a_server_that_stays_busy_is_a_fault(monkeypatch):
    monkeypatch.setattr(prefect_server, "BUSY_PAUSES", (0.01, 0.01))
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
