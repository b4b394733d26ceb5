"""The viewer's web application (ASGI): its page, what is known of each case, and the volumes.

It stands behind a ``HostGuard``, so a page of another origin, or another name that points to this
machine, gets nothing. All addresses begin with a random token, so another user of this machine gets
nothing either. It only reads, and only what the list of the run's cases names: addresses hold the
number of a case and of a channel, never a path.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from secrets import compare_digest
from typing import Any

from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.local.host_guard import Message, Receive, Send
from unet_pipeline.records import json_text
from unet_pipeline.storage.store import Store, join
from unet_pipeline.viewing.assets import asset
from unet_pipeline.viewing.cases import confidence_of, listed, told
from unet_pipeline.viewing.index import RunIndex
from unet_pipeline.viewing.ranges import asked_part, cut
from unet_pipeline.viewing.volumes import CONFIDENCE, IMAGE, LABELS, Stream, stream_of

JSON, TEXT, PNG = "application/json", "text/plain; charset=utf-8", "image/png"
NIFTI, PAGE = "application/octet-stream", "text/html; charset=utf-8"
MOST_PICTURE = 16 * 2**20
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' data: blob:; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# The report holds its own style and script. It is read as a stranger's file: in a sandbox it is of
# no origin, so that a script of another hand reaches neither cases nor volumes.
REPORT, MOST_REPORT = "report.html", 256 * 2**20
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CASE = re.compile(r"case/([0-9]{1,6})\.json")
_IMAGE = re.compile(rf"case/([0-9]{{1,6}})/{IMAGE}([0-9]{{1,4}})-([0-9]{{1,6}})[.]nii")
_LABELS = re.compile(rf"case/([0-9]{{1,6}})/{LABELS}[.]nii")
_CONFIDENCE = re.compile(rf"case/([0-9]{{1,6}})/{CONFIDENCE}[.]nii")
_PICTURE = re.compile(r"case/([0-9]{1,6})/picture[.]png")
_END = b""  # no piece is empty


@dataclass(frozen=True)
class Answer:
    """What is sent: headers, and a body in pieces of ``size`` bytes in all."""

    status: int
    kind: str
    size: int
    pieces: Callable[[], Iterator[bytes]]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Viewer:
    """The application.

    Attributes
    ----------
    output
        URL of what the run wrote to.
    folder
        URL of the run's own folder, where its report lies.
    token
        Without it in the address nothing is answered.
    """

    store: Store
    output: str
    folder: str
    index: RunIndex
    token: str

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request; read in a thread, piece by piece."""
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] != "http":
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        answer = await asyncio.to_thread(self.answer, scope["method"], scope["path"])
        answer = _in_part(answer, scope)
        told_headers = {
            **HEADERS,
            "content-type": answer.kind,
            "content-length": str(answer.size),
            **answer.headers,
        }
        raw = [(name.encode(), value.encode()) for name, value in told_headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        pieces = iter(()) if scope["method"] == "HEAD" else answer.pieces()
        while piece := await asyncio.to_thread(next, pieces, _END):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        return await send({"type": "http.response.body", "body": b""})

    def answer(self, method: str, path: str) -> Answer:
        """Return what a request gets.

        Parameters
        ----------
        path
            Of the address, decoded.
        """
        head, _, name = path.removeprefix("/").partition("/")
        if not compare_digest(head.encode("utf-8", "replace"), self.token.encode()):
            return _text(404, "Nothing is here.")
        if method not in ("GET", "HEAD"):
            return _text(405, "This server only reads.", {"allow": "GET, HEAD"})
        try:
            return self._found(name)
        except (KeyError, IndexError):
            return _text(404, "Nothing is here.")
        except PipelineError as error:
            return _text(422, str(error))

    def _found(self, name: str) -> Answer:
        if (page := asset(name)) is not None:
            packed = {"content-encoding": "gzip"} if page.packed else {}
            return _whole(200, page.kind, page.data, packed)
        if name == "cases.json":
            return _json(listed(self.index))
        if name == REPORT:
            report = self.store.read_at_most(join(self.folder, REPORT), MOST_REPORT)
            return _whole(200, PAGE, report, {"content-security-policy": REPORT_POLICY})
        if found := _CASE.fullmatch(name):
            return _json(told(self.store, self.output, self.index, int(found[1])))
        cases = self.index.cases
        if found := _IMAGE.fullmatch(name):
            url = cases[int(found[1])].images[int(found[2])]
            return _file(stream_of(self.store, url, IMAGE, int(found[3])))
        if found := _LABELS.fullmatch(name):
            labels = join(self.output, cases[int(found[1])].labels)
            return _file(stream_of(self.store, labels, LABELS))
        if found := _CONFIDENCE.fullmatch(name):
            sure = confidence_of(self.output, cases[int(found[1])])
            return _file(stream_of(self.store, sure, CONFIDENCE))
        if found := _PICTURE.fullmatch(name):
            figure = join(self.output, cases[int(found[1])].figure)
            return _picture(self.store.read_at_most(figure, MOST_PICTURE))
        raise KeyError(name)


def _file(stream: Stream) -> Answer:
    return Answer(200, NIFTI, stream.size, stream.pieces, {"accept-ranges": "bytes"})


def _in_part(answer: Answer, scope: Message) -> Answer:
    """Return the part of a volume that a request asks for, if it asks for one.

    ``If-Range`` never holds: volumes have no etag that it could name.
    """
    said = dict(scope["headers"])
    if scope["method"] != "GET" or "accept-ranges" not in answer.headers or b"if-range" in said:
        return answer
    part = asked_part(said.get(b"range", b"").decode("latin-1"), answer.size)
    if part is None:
        return answer
    if not part.size:
        return _text(416, "It ends before that.", {"content-range": f"bytes */{answer.size}"})
    place = f"bytes {part.first}-{part.stop - 1}/{answer.size}"
    return replace(
        answer,
        status=206,
        size=part.size,
        pieces=lambda: cut(answer.pieces(), part),
        headers={**answer.headers, "content-range": place},
    )


def _picture(data: bytes) -> Answer:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise CaseError(
            "no_picture",
            found="a file that is no PNG",
            wanted="the picture of a case",
            remedy="Run segment again",
        )
    return _whole(200, PNG, data)


def _whole(status: int, kind: str, data: bytes, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, kind, len(data), lambda: iter((data,)), headers or {})


def _json(value: dict[str, Any]) -> Answer:
    return _whole(200, JSON, json_text(value).encode("utf-8", "backslashreplace"))


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Answer:
    return _whole(status, TEXT, f"{text}\n".encode("utf-8", "backslashreplace"), headers)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
