"""What fsspec, s3fs, botocore and the operating system raise, said as our own errors.

What would hit every case (wrong keys, a missing bucket) is a ``RequestError`` wherever it shows.
The rest is a ``CaseError`` while one object is handled, and a ``RequestError`` while a request is
still being checked. Only codes and numbers are quoted: texts from servers stay out of messages.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from botocore import exceptions as boto  # type: ignore[import-untyped]

from unet_pipeline.errors import CaseError, PipelineError, RequestError
from unet_pipeline.storage.urls import redact

_STORAGE_ERRORS = (
    OSError,
    ValueError,
    NotImplementedError,
    boto.BotoCoreError,
    boto.ClientError,
    aiohttp.ClientError,
)
_NETWORK_ERRORS = (
    ConnectionError,
    TimeoutError,
    boto.ConnectionError,
    boto.HTTPClientError,
    aiohttp.ClientError,
)
_CREDENTIAL_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
)
_BAD_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
}


class _Said(NamedTuple):
    code: str
    found: str
    wanted: str
    remedy: str


@contextmanager
def explained(url: str, *, request: bool = False) -> Iterator[None]:
    """Turn storage faults raised inside the block into errors about ``url``.

    Parameters
    ----------
    request
        The block checks the request as a whole: every fault is a ``RequestError``.
    """
    try:
        yield
    except PipelineError:
        raise
    except _STORAGE_ERRORS as error:
        raise explain(error, url, request=request) from error


def explain(error: BaseException, url: str, *, request: bool) -> PipelineError:
    """Return the error that says what ``error`` means for ``url``."""
    service_code = _service_code(error)
    said = _of_request(error, service_code, url)
    kind: type[PipelineError] = RequestError
    if said is None:
        said = _of_object(error, service_code, request=request)
        kind = RequestError if request else CaseError
    return kind(
        said.code, subject=redact(url), found=said.found, wanted=said.wanted, remedy=said.remedy
    )


def is_past_end(error: OSError) -> bool:
    """Say whether ``error`` answers a range read that starts behind the last byte."""
    return _service_code(error) in {"InvalidRange", "416"}


def _service_code(error: BaseException | None) -> str:
    """Return the code of the S3 answer behind ``error``, empty if there is none."""
    while error is not None and not isinstance(error, boto.ClientError):
        error = error.__cause__
    return "" if error is None else str(error.response.get("Error", {}).get("Code", ""))


def _of_request(error: BaseException, service_code: str, url: str) -> _Said | None:
    """Say what is wrong for every case, or None if ``error`` may concern one object only."""
    if service_code in _BAD_KEYS:
        return _Said(
            "access_denied",
            f"keys that the store refuses ({service_code})",
            "keys that it accepts",
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile",
        )
    if service_code == "NoSuchBucket":
        return _Said(
            "bucket_missing",
            f"no bucket {_bucket(url)}",
            "a bucket that exists",
            "Correct the URL or the endpoint, or create the bucket",
        )
    if isinstance(error, _CREDENTIAL_ERRORS):
        return _Said(
            "credentials_missing",
            "no complete pair of S3 keys",
            "an access key and its secret",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile",
        )
    if isinstance(error, boto.ProfileNotFound):
        return _Said(
            "profile_unknown",
            f"no AWS profile {error.kwargs['profile']}",
            "a profile of the AWS configuration files",
            "Correct the profile setting or AWS_PROFILE, or add the profile",
        )
    if isinstance(error, boto.SSLError):
        return _Said(
            "certificate_unknown",
            f"a certificate of {_endpoint(error)} that cannot be checked",
            "one signed by an authority that is known here",
            "Name your authority's file (PEM) in AWS_CA_BUNDLE, for the run and for its workers",
        )
    if isinstance(error, (ValueError, boto.ParamValidationError)):
        return _Said(
            "url_invalid",
            "a URL that the store cannot take",
            "a URL like s3://bucket/prefix or a local path, with ** only as a whole part",
            "Correct the URL",
        )
    return None


def _of_object(error: BaseException, service_code: str, *, request: bool) -> _Said:
    """Say what is wrong with one object, or with the place that a request names."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        what = "folder" if request else "file"
        return _Said(
            f"{what}_missing",
            f"no {'file or folder' if request else 'file'} of that name",
            f"a {what} that can be read",
            "Correct the path, or put the data there",
        )
    if isinstance(error, PermissionError):
        return _Said(
            "access_denied",
            f"access denied{f' ({service_code})' if service_code else ''}",
            "the right to read, list and write where the run needs it",
            "Grant these keys or this user access, or use others",
        )
    if isinstance(error, NotImplementedError):
        return _Said(
            "not_writable",
            "a store that can only be read",
            "one that can be written",
            "Use another output URL",
        )
    if isinstance(error, _NETWORK_ERRORS):
        return _Said(
            "endpoint_unreachable" if request else "storage_failed",
            f"no answer from {_endpoint(error)}",
            "an object store that answers",
            "Check the endpoint setting, AWS_ENDPOINT_URL and the network, then try again",
        )
    return _Said(
        "storage_failed", _fault(error, service_code), "a read or write that succeeds", "Try again"
    )


def _fault(error: BaseException, service_code: str) -> str:
    if service_code:
        return f"the store answered {service_code}"
    if type(error).__name__ == "FileExpired":
        return "an object that was replaced while it was read"
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__


def _endpoint(error: BaseException) -> str:
    asked = getattr(error, "kwargs", {}).get("endpoint_url")
    if not asked:
        return "the endpoint"
    parts = urlsplit(redact(asked))
    return f"{parts.scheme}://{parts.netloc}"


def _bucket(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
