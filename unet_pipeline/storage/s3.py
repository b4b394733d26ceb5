"""What is asked of S3 itself and not of s3fs: writes on a condition, reads that name a version."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import chain
from typing import Any

from aiobotocore.session import AioSession  # type: ignore[import-untyped]
from botocore import exceptions as boto  # type: ignore[import-untyped]
from botocore.utils import parse_timestamp  # type: ignore[import-untyped]
from fsspec.asyn import sync
from s3fs.core import _error_wrapper

# The largest object that is sent as one PUT is twice this; larger ones are sent in parts, which
# is atomic too.
PUT_PART = 256 * 2**20
STREAM_PART = 16 * 2**20  # bytes of a part of an object that is never whole in memory
_AT_ONCE = 4  # parts that are under way
_PRECONDITION = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_NOT_IMPLEMENTED = {"NotImplemented", "501"}


class PreconditionFailedError(OSError):
    """The store holds something else than the condition of a write names."""


def use_quick_session(files: Any) -> None:
    """Let a file system read the times in answers by the standard library.

    A page of a listing has a thousand, and botocore's own way takes four times as long as all else
    of the page.
    """
    if files.session is None:
        session = AioSession(**files.kwargs)
        factory = session.get_component("response_parser_factory")
        factory.set_parser_defaults(timestamp_parser=time_of)
        files.session = session


def time_of(value: Any) -> datetime:
    """Return the time that an answer names, as botocore does."""
    if isinstance(value, str) and "T" in value and value.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    found: datetime = parse_timestamp(value)
    return found


def service_code(error: BaseException | None) -> str:
    """Return the code of the S3 answer behind ``error``, empty if there is none.

    The answer to a HEAD has no body: its code is the HTTP status.
    """
    answer = client_error(error)
    return "" if answer is None else str(answer.response.get("Error", {}).get("Code", ""))


def client_error(error: BaseException | None) -> Any:
    """Return the error of botocore behind ``error``, or None."""
    while error is not None and not isinstance(error, boto.ClientError):
        error = error.__cause__
    return error


def get(files: Any, path: str, wanted: str) -> tuple[bytes, dict[str, Any]]:
    """Return a range of an object (``bytes=0-99``, ``bytes=-4``), and what is said of the whole.

    Returns
    -------
    data
        Up to as many bytes as were asked for.
    info
        ``size``, ``ETag`` and ``VersionId`` of the version that was read.
    """
    bucket, key, _ = files.split_path(path)

    async def once() -> tuple[bytes, Any]:
        answer = await files._call_s3("get_object", Bucket=bucket, Key=key, Range=wanted)
        async with answer["Body"] as body:
            return await body.read(), answer

    async def patiently() -> tuple[bytes, Any]:
        found: tuple[bytes, Any] = await _error_wrapper(once, retries=files.retries)
        return found

    data, answer = sync(files.loop, patiently)
    whole = str(answer.get("ContentRange", "")).rpartition("/")[2]
    size = int(whole) if whole.isdigit() else int(answer["ContentLength"])
    info = {"size": size, "ETag": answer.get("ETag"), "VersionId": answer.get("VersionId")}
    return data, info


def put(files: Any, path: str, data: bytes | bytearray, condition: dict[str, str]) -> str | None:
    """Store an object, and return its etag as the answer to the PUT gives it.

    Parameters
    ----------
    condition
        ``{"IfNoneMatch": "*"}``, ``{"IfMatch": etag}`` or nothing. A store that does not know
        conditions ignores them, or refuses them (501), and is then asked without.

    Raises
    ------
    PreconditionFailedError
        If the store says that the condition does not hold.
    """
    bucket, key, _ = files.split_path(path)
    if len(data) >= 2 * PUT_PART:
        files.pipe_file(path, data, chunksize=PUT_PART)
        return None
    return _on_condition(
        files,
        path,
        lambda more: files.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **more),
        condition,
    )


def _on_condition(
    files: Any,
    path: str,
    act: Callable[[dict[str, str]], dict[str, Any]],
    condition: dict[str, str],
) -> str | None:
    """Make an object on a condition, as of ``put``; return the etag that the answer names."""
    try:
        answer = act(condition)
    except OSError as error:
        code = service_code(error)
        if condition and code in _NOT_IMPLEMENTED:
            return _on_condition(files, path, act, {})
        if code in _PRECONDITION and _is_there(files, path, condition.get("IfMatch", "")):
            return _on_condition(files, path, act, {"IfMatch": condition["IfMatch"].strip('"')})
        gone = "IfMatch" in condition and code in {"NoSuchKey", "404"}
        if condition and (code in _PRECONDITION or gone):
            raise PreconditionFailedError("another object") from error
        if code == "NoSuchUpload":  # given up by the store, or completed, and the answer was lost
            raise OSError("an upload that is gone") from error
        raise
    etag: str | None = answer.get("ETag")
    return etag


def _is_there(files: Any, path: str, quoted: str) -> bool:
    """Say whether a store holds just what a condition names in quotes, which it compared, too.

    RADOS gateways do so: of them a version is asked for without quotes.
    """
    if not quoted.startswith('"'):
        return False
    bucket, key, _ = files.split_path(path)
    try:
        return bool(files.call_s3("head_object", Bucket=bucket, Key=key).get("ETag") == quoted)
    except OSError:
        return False


def put_parts(
    files: Any,
    path: str,
    parts: Iterable[bytes],
    condition: dict[str, str],
    look_again: Callable[[], None],
) -> str | None:
    """Store an object that is never whole in memory, in one step at its end; return its etag.

    A small one is sent by one PUT.

    Parameters
    ----------
    condition
        As of ``put``.
    look_again
        Raises if what is there is not what may be replaced; called at the last moment, for stores
        that know no conditions.

    Raises
    ------
    PreconditionFailedError
        As ``put``. Whatever is raised, the parts are given up and nothing is stored.
    """
    pieces = _pieces(parts)
    first, second = next(pieces, b""), next(pieces, None)
    if second is None:
        look_again()
        return put(files, path, first, condition)
    bucket, key, _ = files.split_path(path)
    place = {"Bucket": bucket, "Key": key}
    upload = {**place, "UploadId": files.call_s3("create_multipart_upload", **place)["UploadId"]}
    try:
        sent = {"Parts": _sent(files, upload, chain([first, second], pieces))}
        look_again()
        return _on_condition(
            files,
            path,
            lambda more: files.call_s3(
                "complete_multipart_upload", **upload, MultipartUpload=sent, **more
            ),
            condition,
        )
    except BaseException:
        with suppress(Exception):
            files.call_s3("abort_multipart_upload", **upload)
        raise


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of ``STREAM_PART``, as S3 wants all parts but the last."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) > STREAM_PART:
            yield bytes(waiting[:STREAM_PART])
            del waiting[:STREAM_PART]
    if waiting:
        yield bytes(waiting)


def _sent(files: Any, upload: dict[str, str], pieces: Iterable[bytes]) -> list[dict[str, Any]]:
    """Send parts, some at once, and return what completes the upload."""
    sent: list[dict[str, Any]] = []
    pending: deque[Future[dict[str, Any]]] = deque()

    def send(number: int, piece: bytes) -> dict[str, Any]:
        answer = files.call_s3("upload_part", **upload, PartNumber=number, Body=piece)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for number, piece in enumerate(pieces, start=1):
            if len(pending) == _AT_ONCE:
                sent.append(pending.popleft().result())
            pending.append(pool.submit(send, number, piece))
        sent += [future.result() for future in pending]
    return sent
