"""Errors that a person can act on: which case, what was found, what was wanted, what to do.

Two kinds, and the difference decides what happens next:

- ``RequestError``: the request itself is wrong (a missing bucket, an unknown bundle). It is raised
  before any work starts; the command line exits with 2.
- ``CaseError``: one case is at fault (a truncated file, a mask on another grid). The case is
  quarantined with the error's ``code`` and the cohort goes on.

No message ever carries free text from an image header, which may name a patient (P10), nor the
password or the signature of a URL.
"""

import re
from typing import Any

_SECRETS = (
    # user:password@, not host:9000/
    r"(://)[^\s/@:]*:(?!\d+(?:[/\s]|$))[^\s@]*@",
    # of web addresses the user alone may be a token
    r"(https?://)[^\s/@]+@",
    # presigned URLs of S3, Google, Azure
    r"(://[^\s?]*)\?(?:\S*&)?"
    r"(?:[^\s=&]*(?:[Ss]ignature|[Cc]redential|[Aa]ccess[Kk]ey[Ii]d|[Tt]oken)|sig)=\S*",
)
NO_SECRET = f"^(?!.*(?:{'|'.join(_SECRETS)}))"  # as a pattern of JSON schema (and of JavaScript)


def has_secret(url: str) -> bool:
    """Say whether ``url`` holds a password or a signature that grants access."""
    return any(re.search(secret, url) for secret in _SECRETS)


def without_secrets(text: str) -> str:
    """Return ``text`` with the passwords and signatures of the URLs in it left out.

    >>> without_secrets("https://me:pw@host:1/x and s3://b/x?X-Amz-Signature=abc")
    'https://host:1/x and s3://b/x'
    """
    for secret in _SECRETS:
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
        self.code, self.subject = code, without_secrets(subject)
        self.found, self.wanted = without_secrets(found), without_secrets(wanted)
        self.remedy = remedy
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


def _rebuild(
    kind: type[PipelineError], code: str, found: str, wanted: str, remedy: str, subject: str
) -> PipelineError:
    return kind(code, found=found, wanted=wanted, remedy=remedy, subject=subject)
