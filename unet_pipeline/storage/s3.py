"""What is asked of S3 itself and not of s3fs: writes on a condition, reads that name a version."""

from collections.abc import Iterator
from typing import Any

from botocore import exceptions as boto  # type: ignore[import-untyped]
from fsspec.asyn import sync
from s3fs.core import _error_wrapper

from unet_pipeline.storage.fingerprint import Fingerprint, of_info
from unet_pipeline.storage.urls import S3

# The largest object that is sent as one PUT is twice this; larger ones are sent in parts, which
# is atomic too.
PUT_PART = 256 * 2**20
_PRECONDITION = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_NOT_IMPLEMENTED = {"NotImplemented", "501"}


class PreconditionFailedError(OSError):
    """The store holds something else than the condition of a write names."""


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
    try:
        answer = files.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
    except OSError as error:
        code = service_code(error)
        if condition and code in _NOT_IMPLEMENTED:
            return put(files, path, data, {})
        gone = "IfMatch" in condition and code in {"NoSuchKey", "404"}
        if condition and (code in _PRECONDITION or gone):
            raise PreconditionFailedError("another object") from error
        raise
    etag: str | None = answer.get("ETag")
    return etag


def list_one(files: Any, path: str) -> None:
    """Ask for one name: the answer has a body, which says what is wrong."""
    bucket, key, _ = files.split_path(path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)


def list_pages(files: Any, path: str) -> Iterator[tuple[str, Fingerprint]]:
    """Yield all objects below a prefix, a page of a thousand at a time; nothing is kept."""
    bucket, key, _ = files.split_path(path)
    asked = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else ""}
    while asked:
        page = files.call_s3("list_objects_v2", **asked)
        for one in page.get("Contents", ()):
            info = {"size": one["Size"], "ETag": one.get("ETag")}
            yield f"{bucket}/{one['Key']}", of_info(S3, info)
        more = page.get("NextContinuationToken") if page.get("IsTruncated") else None
        asked = {**asked, "ContinuationToken": more} if more else {}
