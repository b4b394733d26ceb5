"""Read and write one object as its protocol has it: on a condition, and knowing its version."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unet_pipeline.storage.faults import is_past_end
from unet_pipeline.storage.fingerprint import (
    Fingerprint,
    fingerprint_of,
    fingerprint_of_stat,
    local_fingerprint,
    of_info,
    strong_etag,
)
from unet_pipeline.storage.local import open_regular, replacing, write_atomically
from unet_pipeline.storage.s3 import PreconditionFailedError, get, put, put_parts
from unet_pipeline.storage.urls import LOCAL, S3, protocol_of

Over = Fingerprint | Literal["anything"] | None


@dataclass(frozen=True)
class Streamed:
    """An object that is never whole in memory.

    Attributes
    ----------
    parts
        Its bytes, which are the same whenever they are gone through.
    size
        How many that are.
    """

    parts: Iterable[bytes]
    size: int


Whole = bytes | bytearray | memoryview
Data = Whole | Streamed


def size_of(data: Data) -> int:
    """Return how many bytes there are to store."""
    return data.size if isinstance(data, Streamed) else memoryview(data).nbytes


def parts_of(data: Data) -> Iterable[Whole]:
    """Return what is to be stored, in one part or several."""
    return data.parts if isinstance(data, Streamed) else [data]


def put_object(url: str, files: Any, path: str, data: Data, over: Over) -> str | None:
    """Store ``data`` and return its etag, where the store says which it is."""
    protocol = protocol_of(url)
    if protocol == LOCAL:
        _write_local(Path(path), data, over)
        return None
    if protocol == S3 and isinstance(data, Streamed):

        def look_again() -> None:
            if over != "anything" and _version_of(url, files, path) != over:
                raise PreconditionFailedError(path)

        etag = put_parts(files, path, data.parts, _condition(over), look_again)
        return strong_etag({"ETag": etag})
    whole = data if isinstance(data, bytes | bytearray) else b"".join(parts_of(data))
    if protocol != S3:
        files.pipe_file(path, whole)
        return None
    etag = put(files, path, whole, _condition(over))
    return strong_etag({"ETag": etag})


def _version_of(url: str, files: Any, path: str) -> Fingerprint | None:
    try:
        return fingerprint_of(url, files, path)
    except FileNotFoundError:
        return None


def _write_local(path: Path, data: Data, over: Over) -> None:
    if not isinstance(over, Fingerprint):
        _write_new(path, data, over)
        return

    def unchanged() -> None:
        if local_fingerprint(path) != over:
            raise PreconditionFailedError(str(path))

    try:
        with replacing(path):
            write_atomically(path, parts_of(data), before=unchanged)
    except BlockingIOError as error:
        raise PreconditionFailedError(str(path)) from error


def _write_new(path: Path, data: Data, over: Literal["anything"] | None) -> None:
    try:
        write_atomically(path, parts_of(data), new=over is None)
    except FileExistsError as error:
        if over is not None:
            raise
        raise PreconditionFailedError(str(path)) from error


def _condition(over: Over) -> dict[str, str]:
    if over is None:
        return {"IfNoneMatch": "*"}
    return {"IfMatch": f'"{over.etag}"'} if isinstance(over, Fingerprint) and over.etag else {}


def read_with_fingerprint(
    url: str, files: Any, path: str, start: int, length: int
) -> tuple[bytes, Fingerprint]:
    """Return a range of an object, from the end where ``start`` is below 0, and its version."""
    protocol = protocol_of(url)
    if protocol == LOCAL:
        with open_regular(path) as file:
            fingerprint = fingerprint_of_stat(os.fstat(file.fileno()))
            file.seek(max(0, fingerprint.size + start) if start < 0 else start)
            return file.read(length), fingerprint
    if protocol == S3:
        wanted = f"bytes={start}" if start < 0 else f"bytes={start}-{start + length - 1}"
        try:
            data, info = get(files, path, wanted)
        except OSError as error:
            if is_past_end(error):
                return b"", fingerprint_of(url, files, path)
            raise
        return data, of_info(protocol, info)
    fingerprint = fingerprint_of(url, files, path)
    begin = max(0, fingerprint.size + start) if start < 0 else min(start, fingerprint.size)
    data = (
        files.cat_file(path, start=begin, end=begin + length) if begin < fingerprint.size else b""
    )
    return bytes(data), fingerprint
