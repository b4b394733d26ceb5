"""What a local Prefect server is asked, over its API."""

import json
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.local.password import Password
from unet_pipeline.local.retry import BUSY_PAUSES
from unet_pipeline.records import json_text

ANSWER_SECONDS = 30.0  # for an answer of the server
READY_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class PrefectApi:
    """A server, as its API is reached.

    Attributes
    ----------
    url
        Address of the web page.
    home
        Folder of its database and logs.
    password
        What it asks everyone for.
    """

    url: str
    home: Path
    password: Password

    def is_ready(self) -> bool:
        """Say whether it answers, and its database, too."""
        try:
            url = f"{self.url}/api/ready"
            with urllib.request.urlopen(url, timeout=READY_SECONDS) as answer:  # noqa: S310
                return bool(json.load(answer))
        except (OSError, ValueError):
            return False

    def api(
        self,
        path: str,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        method: str | None = None,
    ) -> Any:
        """Ask the server's API: by default POST with a body, or else GET.

        None if there is no such thing, or no answer to give.

        Where its database is busy it is asked again, as Prefect's own clients do: that is a 503, or
        no answer, for a writer may hold a file of SQLite for a minute.
        """
        token = b64encode(self.password.text.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
        request = urllib.request.Request(  # noqa: S310  loopback only
            f"{self.url}/api{path}",
            None if body is None else json_text(body).encode(),
            headers,
            method=method,
        )
        pauses = iter(BUSY_PAUSES)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code == HTTPStatus.NOT_FOUND:
                    return None
                busy = error.code == HTTPStatus.SERVICE_UNAVAILABLE
                pause = next(pauses, None) if busy else None
                if pause is None:
                    raise prefect_failed(f"status {error.code} of {path}", self.home) from error
                time.sleep(pause)
            except TimeoutError as error:
                if next(pauses, None) is None:
                    raise prefect_failed(f"no answer to {path}", self.home) from error


def prefect_failed(found: str, home: Path) -> RequestError:
    """Return the error that says what Prefect did instead of what it should."""
    return RequestError(
        "prefect_failed",
        found=found,
        wanted="a local Prefect server",
        remedy=f"Look into the logs in {home}",
    )
