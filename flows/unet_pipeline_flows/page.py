"""What the flows show on the page of a run while it goes, and at its end."""

import base64
import time
from pathlib import Path
from threading import Event, Thread
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event
from prefect.runtime import flow_run

ENDED = "unet-pipeline.run.ended"
PAUSE_SECONDS = 2.0  # before a server that is away is asked again
PATIENCE_SECONDS = 300.0  # with it, at the end of a run
TABLE_ROWS = 500  # an artifact is a page of the web page, not the archive: that is a CSV file


_BARS: list["Bar"] = []  # of this process, which has one run


class Bar:
    """A bar that says how far a run is; it moves a percent at a time.

    It is moved by a thread of its own, so that a run does not wait for a server that is away.
    """

    def __init__(self, total: int, description: str) -> None:
        self.total, self.done, self.percent = total, 0, 0
        self.artifact = cast(UUID, create_progress_artifact(0.0, description=description))
        self.moved, self.over = Event(), False
        self.thread = Thread(target=self._show, daemon=True)
        self.thread.start()
        _BARS.append(self)

    def advance(self) -> None:
        """Move it by one of ``total``."""
        self.move_to(self.done + 1)

    def move_to(self, done: int) -> None:
        """Move it to ``done`` of ``total``."""
        self.done = done
        percent = min(100 * done // self.total, 100)
        if percent > self.percent:
            self.percent = percent
            self.moved.set()

    def close(self) -> None:
        """Wait until it shows how far the run came, but not for ever."""
        self.over = True
        self.moved.set()
        self.thread.join(PATIENCE_SECONDS)

    def _show(self) -> None:
        """Show where it is, each time that it moved, again and again until the server takes it."""
        shown = 0
        while not (self.over and shown == self.percent):
            self.moved.wait()
            self.moved.clear()
            while shown != (wanted := self.percent):
                try:
                    update_progress_artifact(self.artifact, progress=wanted)
                    shown = wanted
                except Exception:  # whatever a server that goes away, or comes back, says
                    time.sleep(PAUSE_SECONDS)


def finish() -> None:
    """Wait until a run's page shows where it came to, also where its server was away meanwhile.

    States of tasks travel as events. Those that were sent just before a server went are sent again
    with the next one, so there is one more.
    """
    while _BARS:
        _BARS.pop().close()
    if run := flow_run.id:
        emit_event(ENDED, resource={"prefect.resource.id": f"prefect.flow-run.{run}"})


def show_link(place: str, text: str, key: str = "report") -> None:
    """Show a link to a URL, or to a local file."""
    url = place if "://" in place else Path(place).resolve().as_uri()
    create_link_artifact(url, link_text=text, key=key)


def show_picture(data: bytes, key: str, description: str, kind: str = "png") -> None:
    """Show a picture, ``png`` or ``svg+xml``."""
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    create_image_artifact(url, key=key, description=description)
