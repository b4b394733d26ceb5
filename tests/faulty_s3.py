"""A proxy on loopback before an S3 server, which misbehaves as a rule says.

A rule is called with each ``Request`` and returns what is done with it: ``PASS``, ``RESET`` (no
answer), ``CUT`` (half of the answer), a number (seconds of sleep before it is passed on) or an
``Answer`` of its own. It may do something of its own first, such as replace the object behind the
server.
"""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PASS, RESET, CUT = "pass", "reset", "cut"
_OF_THE_HOP = {"transfer-encoding", "content-length", "date", "server", "connection"}


@dataclass(frozen=True)
class Request:
    """A request, and the how many-th it is, from 1."""

    number: int
    method: str
    path: str
    headers: object


@dataclass(frozen=True)
class Answer:
    """An error of S3."""

    status: int
    code: str

    def body(self) -> bytes:
        return f"<Error><Code>{self.code}</Code><Message>as told</Message></Error>".encode()


SLOW_DOWN, EXPIRED = Answer(503, "SlowDown"), Answer(400, "ExpiredToken")
Rule = Callable[[Request], object]


@dataclass
class FaultyS3:
    """The proxy; ``rule`` may be changed at any time."""

    backend: str
    url: str = ""
    rule: Rule = field(default=lambda request: PASS)
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, method: str, path: str, headers: object) -> object:
        with self.lock:
            self.count += 1
            return self.rule(Request(self.count, method, path, headers))

    def restart(self, rule: Rule = lambda request: PASS) -> None:
        """Count from 1 again, under another rule."""
        with self.lock:
            self.count, self.rule = 0, rule


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyS3

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError, ValueError, http.client.HTTPException):
            super().handle()

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = self.proxy.decide(self.command, self.path, self.headers)
        if isinstance(told, Answer):
            return self.answer(told.status, {"Content-Type": "application/xml"}, told.body())
        if told == RESET:
            return self.reset()
        if isinstance(told, int | float):
            time.sleep(told)
        status, headers, data = self.upstream(body)
        if told == CUT and self.command == "GET":
            self.answer(status, headers, data, sent=len(data) // 2)
            return self.reset()
        return self.answer(status, headers, data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = respond

    def upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        backend = urlsplit(self.proxy.backend).netloc
        with closing(http.client.HTTPConnection(backend, timeout=30)) as asked:
            asked.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                asked.putheader(name, value)
            asked.endheaders(body)
            got = asked.getresponse()
            data = got.read()
        headers = {n: v for n, v in got.getheaders() if n.lower() not in _OF_THE_HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = got.getheader("Content-Length") or "0"
        return got.status, headers, data

    def answer(
        self, status: int, headers: dict[str, str], data: bytes, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])
            self.wfile.flush()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def faulty_s3(backend: str) -> Iterator[FaultyS3]:
    """Serve a proxy before ``backend`` until the block ends."""
    proxy = FaultyS3(backend)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
