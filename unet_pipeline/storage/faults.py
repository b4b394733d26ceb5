"""What fsspec, s3fs, botocore and the operating system raise, said as our own errors.

What would hit every case (wrong keys, a missing bucket) is a ``RequestError`` wherever it shows.
The rest is a ``CaseError`` while one object is handled, and a ``RequestError`` while a request is
still being checked. Only codes and numbers are quoted: texts from servers stay out of messages.
"""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from botocore import exceptions as boto  # type: ignore[import-untyped]

from unet_pipeline.errors import CaseError, PipelineError, RequestError, unforeseen
from unet_pipeline.storage.local import NotRegularError
from unet_pipeline.storage.s3 import PreconditionFailedError, client_error, service_code
from unet_pipeline.storage.urls import LOCAL, protocol_of, redact

log = logging.getLogger(__name__)

_STORAGE_ERRORS = (
    OSError,
    ValueError,
    NotImplementedError,
    boto.BotoCoreError,
    boto.ClientError,
    aiohttp.ClientError,
    RecursionError,
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
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
}
_OTHER_REGION = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
    "Redirect",
    "301",
}
_REGION = re.compile(r"[a-z]{2}(-[a-z0-9]+){1,4}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
    except (PipelineError, PreconditionFailedError):
        raise
    except _STORAGE_ERRORS as error:
        raise explain(error, url, request=request) from error


def keys_are_refused(error: BaseException) -> bool:
    """Say whether the store takes our keys for none; asking for keys again may help."""
    return service_code(error) in _BAD_KEYS or isinstance(error, _CREDENTIAL_ERRORS)


def input_changed(url: str) -> CaseError:
    """Return the error of an object that is another one than at the first look at its case."""
    return CaseError(
        "input_changed",
        subject=redact(url),
        found="an object that was replaced while its case was under way",
        wanted="one version from the first look to the last",
        remedy="Wait until its writer has finished, then run again",
    )


def explain(error: BaseException, url: str, *, request: bool) -> PipelineError:
    """Return the error that says what ``error`` means for ``url``."""
    if type(error).__name__ == "FileExpired":
        return input_changed(url)
    code = service_code(error)
    said = _of_request(error, code, url)
    kind: type[PipelineError] = RequestError
    if said is None:
        said = _of_object(error, code, url, request=request)
        kind = RequestError if request else CaseError
    return kind(
        said.code, subject=redact(url), found=said.found, wanted=said.wanted, remedy=said.remedy
    )


def is_past_end(error: OSError) -> bool:
    """Say whether ``error`` answers a range read that starts behind the last byte."""
    return service_code(error) in {"InvalidRange", "416"}


@contextmanager
def of_case(name: str) -> Iterator[None]:
    """Turn whatever is raised for a case into an error of that case, foreseen or not.

    Raises
    ------
    PipelineError
        As it is; else ``of_system`` or ``unexpected``, which is logged with its traceback.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        fault = of_system(error)
        if fault is None:
            log.exception("%s failed for a reason that nobody foresaw", name)
            fault = unforeseen(error)
        raise fault from error


def of_system(error: BaseException | None) -> CaseError | None:
    """Name a fault of the operating system outside of any store; None if it is none.

    A full or read-only disk is then that of scratch: outputs are written through a store.
    """
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    assert isinstance(error, OSError)  # noqa: S101  the loop has looked
    said = _of_errno(error.errno, "scratch") or _Said(
        "system_failed",
        os.strerror(error.errno or 0),
        "a machine that gives what the work needs",
        "Look at this machine: its disks, its limits (ulimit -a), its network",
    )
    return CaseError(said.code, found=said.found, wanted=said.wanted, remedy=said.remedy)


def _of_request(error: BaseException, service_code: str, url: str) -> _Said | None:
    """Say what is wrong for every case, or None if ``error`` may concern one object only."""
    if service_code in _BAD_KEYS:
        return _Said(
            "access_denied",
            f"keys that the store refuses ({service_code})",
            "keys that it accepts",
            "Get new keys, where theirs have run out; check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile",
        )
    if service_code == "NoSuchBucket":
        return _Said(
            "bucket_missing",
            f"no bucket {_bucket(url)}",
            "a bucket that exists",
            "Correct the URL or the endpoint, or create the bucket",
        )
    if service_code in _OTHER_REGION or isinstance(error, RecursionError):  # botocore's redirects
        named = _named_region(error)
        return _Said(
            "region_wrong",
            f"a bucket {_bucket(url)} in {named or 'another region'}",
            "the region and the endpoint of that bucket",
            f"Say --region {named or 'REGION'}, or set AWS_DEFAULT_REGION; an endpoint of another "
            "region must go",
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


def _of_object(error: BaseException, service_code: str, url: str, *, request: bool) -> _Said:
    """Say what is wrong with one object, or with the place that a request names."""
    if service_code == "InvalidObjectState":
        return _Said(
            "object_archived",
            "an object in an archive storage class (such as Glacier)",
            "one that can be read at once",
            "Restore it first (aws s3api restore-object), and run again when that is done",
        )
    named = _of_errno(getattr(error, "errno", None), "output")
    if named is not None and (protocol_of(url) == LOCAL or named.code == "name_too_long"):
        return named
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        what = "folder" if request else "file"
        return _Said(
            f"{what}_missing",
            f"no {'file or folder' if request else 'file'} of that name",
            f"a {what} that can be read",
            "Correct the path, or put the data there",
        )
    if isinstance(error, NotRegularError):
        return _Said(
            "file_special",
            f"{error.args[0]}, which was not opened",
            "a regular file",
            "Write its content to a file, and name that",
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
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__


def _of_errno(number: int | None, place: str) -> _Said | None:
    """Name what the operating system says of a disk or of a name."""
    if number in _FULL:
        return _Said(
            f"{place}_full",
            f"no space left for the {place} ({os.strerror(number or 0)})",
            "space for it",
            f"Free space there, or take another {'--scratch' if place == 'scratch' else place}",
        )
    if number == errno.EROFS:
        return _Said(
            "read_only",
            f"a file system for the {place} that can only be read",
            "one that can be written",
            f"Mount it for writing, or take another {place}",
        )
    if number == errno.ENAMETOOLONG:
        return _Said(
            "name_too_long",
            "a name that is longer than the store allows",
            "at most 255 bytes a part of a path, with _dseg.nii.gz behind it",
            "Rename the file, or name its case in a manifest",
        )
    return None


def _named_region(error: BaseException) -> str:
    """Return the region that the store names, if it looks like one."""
    answer = client_error(error)
    response = {} if answer is None else answer.response
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    said = response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or ""
    return said if _REGION.fullmatch(str(said)) else ""


def _endpoint(error: BaseException) -> str:
    asked = getattr(error, "kwargs", {}).get("endpoint_url")
    if not asked:
        return "the endpoint"
    parts = urlsplit(redact(asked))
    return f"{parts.scheme}://{parts.netloc}"


def _bucket(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
