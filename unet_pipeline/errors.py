"""Errors that a person can act on: which case, what was found, what was wanted, what to do.

Three kinds, and the difference decides what happens next:

- ``RequestError``: the request itself is wrong (a missing bucket, an unknown bundle). It is raised
  before any work starts; the command line exits with 2.
- ``CaseError``: one case is at fault (a truncated file, a mask on another grid). The case is
  quarantined with the error's ``code`` and the cohort goes on.
- ``RunStopped``: something fails for all cases, in the middle: the store (a full disk, keys that
  have run out), or the cluster (no worker is left). What is finished stays, the report is written
  where it can be, and the command line exits with 3.

No message ever carries free text from an image header, which may name a patient (P10), nor the
user, the password or the signature of a URL, nor characters that a terminal or a page would obey.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unet_pipeline.texts import shown

_URL, _COLON, _AT = r"((?::|%3[Aa])(?:/|%2[Ff]){2}", "(?::|%3[Aa])", "(?:@|%40)"
_FIRST_PART = r"(?:(?!/|%2[Ff])\S)*"
_WORDS = (
    *("accesskey", "access_key", "access-key", "apikey", "api_key", "authorization", "credential"),
    *("passw", "pwd", "secret", "signature", "token", "x-amz-", "x-goog-"),
)
_NAME = r"[^\s=&;/]*"


def _any_case(words: tuple[str, ...]) -> str:
    """Return a pattern of words in any case; JSON schema has no flag for it."""
    return "|".join("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in w) for w in words)


_SECRETS = (
    # user:password@ before the first slash or behind it: a password may hold slashes
    rf"{_URL})(?:(?!/|%2[Ff]|{_COLON})[^\s@])*{_COLON}\S*{_AT}",
    # the user alone may be a token
    rf"{_URL}){_FIRST_PART}{_AT}",
    # presigned URLs of S3, Google, Azure, and other keys of a query
    rf"{_URL}[^\s?#&;]*)(?:[?#&;]|%3[Ff])(?:\S*(?:[?#&;]|%26))?"
    rf"(?:{_NAME}(?:{_any_case(_WORDS)}){_NAME}|{_any_case(('sig', 'key', 'sas', 'auth'))})"
    r"(?:=|%3[Dd])\S*",
)
_OF_ONE_URL = tuple(
    pattern.replace(r"\S", r"[\s\S]").replace(r"[^\s", "[^") for pattern in _SECRETS
)
NO_SECRET = rf"^(?![\s\S]*(?:{'|'.join(_OF_ONE_URL)}))"  # for JSON schema (and JavaScript)


def has_secret(url: str) -> bool:
    """Say whether ``url`` holds a user, a password, a token or a signature that grants access."""
    return any(re.search(secret, url) for secret in _OF_ONE_URL)


def without_secrets(text: str, *, one_url: bool = False) -> str:
    """Return ``text`` with the users, passwords and signatures of the URLs in it left out.

    Parameters
    ----------
    one_url
        Whether the text is one URL, in which spaces end nothing.

    >>> without_secrets("https://me:pw@host:1/x and s3://b/x?X-Amz-Signature=abc")
    'https://host:1/x and s3://b/x'
    """
    for secret in _OF_ONE_URL if one_url else _SECRETS:
        text = re.sub(secret, r"\1", text)
    return text


class PipelineError(ValueError):
    """An error with a reason code and four parts.

    Parameters
    ----------
    code
        Short reason code in ``snake_case``, stable across releases, for machines.
    found
        What was found, with its value and unit.
    wanted
        What was wanted instead.
    remedy
        What the reader can do about it, as an imperative sentence without a final stop.
    subject
        The case, URL or setting that the error is about; empty if there is none.
    """

    def __init__(
        self, code: str, *, found: str, wanted: str, remedy: str, subject: str = ""
    ) -> None:
        self.code, self.subject, self.found = code, _sayable(subject), _sayable(found)
        self.wanted, self.remedy = _sayable(wanted), _sayable(remedy)
        super().__init__(code)

    def __str__(self) -> str:
        head = f"{self.subject}: " if self.subject else ""
        return f"{head}found {self.found}; wanted {self.wanted}. {self.remedy}."

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions with keyword-only arguments do not survive pickling between Dask processes.
        return _rebuild, (type(self), self.code, self.found, self.wanted, self.remedy, self.subject)

    def about(self, subject: str) -> "PipelineError":
        """Return the same error, said of ``subject`` (a case name), if it names nothing yet."""
        if self.subject:
            return self
        return _rebuild(type(self), self.code, self.found, self.wanted, self.remedy, subject)


class RequestError(PipelineError):
    """The request is wrong as a whole; raised before any work starts."""


class CaseError(PipelineError):
    """One case is at fault; the case is quarantined and the cohort goes on."""


class RunStopped(PipelineError):  # noqa: N818  it says what happened
    """A fault that concerns all cases: the run stops; what is finished stays."""

    @classmethod
    def because(cls, error: PipelineError) -> "RunStopped":
        """Return the stop that another error is the reason of."""
        return cls(
            error.code,
            found=error.found,
            wanted=error.wanted,
            remedy=error.remedy,
            subject=error.subject,
        )


def unforeseen(error: Exception) -> CaseError:
    """Return the fault of a case that no check foresaw; it is a fault of this package."""
    return CaseError(
        "unexpected",
        found=f"an error that nobody foresaw ({type(error).__name__})",
        wanted="none",
        remedy="Look at the log of the run, and report it as a fault of unet_pipeline",
    )


def _sayable(text: str) -> str:
    return shown(without_secrets(text))


@contextmanager
def of_request() -> Iterator[None]:
    """Raise a store's fault in one file as a wrong request: without that file no case can run."""
    try:
        yield
    except CaseError as error:
        raise RequestError(
            error.code,
            found=error.found,
            wanted=error.wanted,
            remedy=error.remedy,
            subject=error.subject,
        ) from error


def _rebuild(
    kind: type[PipelineError], code: str, found: str, wanted: str, remedy: str, subject: str
) -> PipelineError:
    return kind(code, found=found, wanted=wanted, remedy=remedy, subject=subject)
