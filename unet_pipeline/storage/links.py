"""Addresses at which a browser opens what a run wrote.

``s3://`` and the path of a file are no addresses for a browser. So the site says one of two things
in the environment of its workers: the base at which a web server of its own serves an output, or
for how many hours an address that is signed by the workers' keys may hold.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from shlex import quote as shell_quote
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from unet_pipeline.errors import PipelineError, RequestError
from unet_pipeline.storage.urls import LOCAL, S3, parent, protocol_of

if TYPE_CHECKING:  # imports s3fs, and `up --help` reads the names of the variables here
    from unet_pipeline.storage.filesystems import StorageOptions

log = logging.getLogger(__name__)

BASE, HOURS = "UNET_PIPELINE_LINK_BASE", "UNET_PIPELINE_LINK_HOURS"
MOST_HOURS = 7 * 24  # a signature of AWS (version 4) holds no longer
_WEB = ("http", "https")


@dataclass(frozen=True)
class Links:
    """How a browser reaches an output.

    Attributes
    ----------
    bases
        Pairs of what URLs of outputs begin with, and the web address that stands for it.
    hours
        How long a signed address holds; None for no such address. Who has one reads the object
        without any key, until then.
    """

    bases: tuple[tuple[str, str], ...] = ()
    hours: float | None = None

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Links":
        """Return what the site says.

        ``UNET_PIPELINE_LINK_BASE`` is an address that stands for ``s3://``, or ``PREFIX=ADDRESS``;
        several are parted by commas. ``UNET_PIPELINE_LINK_HOURS`` is a number up to 168.

        Raises
        ------
        RequestError
            ``link_base_invalid`` or ``link_hours_invalid``.
        """
        said = (one.strip() for one in env.get(BASE, "").split(","))
        return cls(tuple(_pair(one) for one in said if one), _hours(env.get(HOURS, "").strip()))

    def address(self, place: str, options: "StorageOptions") -> str | None:
        """Return the address of an object; None if a browser reaches it by none.

        Parameters
        ----------
        place
            URL of the object, or its path on this machine.
        options
            Of the store that it lies in, whose keys sign.
        """
        if urlsplit(place).scheme in _WEB:
            return place
        held = [(prefix, base) for prefix, base in self.bases if _is_below(place, prefix)]
        if held:
            prefix, base = max(held, key=lambda one: len(one[0]))
            rest = place[len(prefix) :].lstrip("/")
            return f"{base.rstrip('/')}/{quote(rest)}"
        if self.hours is not None and protocol_of(place) == S3:
            return _signed(place, options, self.hours)
        return None


def _signed(url: str, options: "StorageOptions", hours: float) -> str | None:
    """Return a signed address; None where keys cannot sign, for no run fails for want of a link."""
    from unet_pipeline.storage.signing import signed_address

    try:
        return signed_address(url, options, round(hours * 3600))
    except PipelineError as error:
        log.warning("no link: %s", error)
        return None


def command_for(place: str) -> str:
    """Return the command that shows a run of which a file is named.

    >>> command_for("s3://results/runs/20261121T013000Z-3f2a/report.html")
    'unet-pipeline view s3://results/runs/20261121T013000Z-3f2a'
    """
    return f"unet-pipeline view {shell_quote(parent(place))}"


def _pair(said: str) -> tuple[str, str]:
    prefix, found, base = said.rpartition("=")
    prefix = prefix if found else f"{S3}://"
    whole = protocol_of(prefix) != LOCAL or PurePosixPath(prefix).is_absolute()
    if whole and urlsplit(base).scheme in _WEB and urlsplit(base).hostname:
        return prefix, base
    raise RequestError(
        "link_base_invalid",
        subject=BASE,
        found=repr(said),
        wanted="an address such as https://files.example.org, which stands for s3://, or "
        "PREFIX=ADDRESS, such as s3://results=https://files.example.org/results",
        remedy="Correct what the worker was started with (up --link-base)",
    )


def _hours(said: str) -> float | None:
    if not said:
        return None
    try:
        hours = float(said)
    except ValueError:
        hours = 0.0
    if 0 < hours <= MOST_HOURS:
        return hours
    raise RequestError(
        "link_hours_invalid",
        subject=HOURS,
        found=repr(said),
        wanted=f"a number of hours above 0, at most {MOST_HOURS}",
        remedy="Correct what the worker was started with (up --link-hours)",
    )


def _is_below(place: str, prefix: str) -> bool:
    whole = prefix if prefix.endswith("/") else f"{prefix}/"
    return place.startswith(whole)
