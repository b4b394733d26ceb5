"""What the flows show on the page of a run while it goes, and at its end."""

import base64
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

TABLE_ROWS = 500  # an artifact is a page of the web page, not the archive: that is a CSV file


class Bar:
    """A bar that says how far a run is; it moves a percent at a time."""

    def __init__(self, total: int, description: str) -> None:
        self.total, self.done, self.percent = total, 0, 0
        self.artifact = cast(UUID, create_progress_artifact(0.0, description=description))

    def advance(self) -> None:
        """Move it by one of ``total``."""
        self.move_to(self.done + 1)

    def move_to(self, done: int) -> None:
        """Move it to ``done`` of ``total``."""
        self.done = done
        percent = min(100 * done // self.total, 100)
        if percent > self.percent:
            update_progress_artifact(self.artifact, progress=percent)
            self.percent = percent


def show_link(place: str, text: str, key: str = "report") -> None:
    """Show a link to a URL, or to a local file."""
    url = place if "://" in place else Path(place).resolve().as_uri()
    create_link_artifact(url, link_text=text, key=key)


def show_picture(data: bytes, key: str, description: str, kind: str = "png") -> None:
    """Show a picture, ``png`` or ``svg+xml``."""
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    create_image_artifact(url, key=key, description=description)
