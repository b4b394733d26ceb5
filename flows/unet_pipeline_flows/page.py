"""What the flows show on the page of a run while it goes, and at its end."""

import time
from threading import Event, Thread
from time import monotonic
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run

from unet_pipeline.durations import pace

ENDED = "unet-pipeline.run.ended"
LOOK_SECONDS = 30.0  # between two looks at a bar that does not move
PAUSE_SECONDS = 2.0  # before a server that is away is asked again
PATIENCE_SECONDS = 300.0  # with it, at the end of a run
TABLE_ROWS = 500  # an artifact is a page of the web page, not the archive: that is a CSV file


_BARS: list["Bar"] = []  # of this process, which has one run


class Bar:
    """A bar that says how far a run is, how fast it is, and how long it has to go.

    It is moved by a thread of its own, so that a run does not wait for a server that is away: when
    it comes to the next percent, and else twice a minute.

    Parameters
    ----------
    total
        Of what ``unit`` says.
    done
        How many of them took no time: they are no measure of what is to come.
    """

    def __init__(self, total: int, description: str, *, done: int = 0, unit: str = "cases") -> None:
        self.total, self.done, self.known, self.unit = total, done, done, unit
        self.description, self.begin, self.percent = description, monotonic(), self._percent()
        self.artifact = cast(
            UUID, create_progress_artifact(float(self.percent), description=self.said())
        )
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
        if (percent := self._percent()) > self.percent:
            self.percent = percent
            self.moved.set()

    def close(self) -> None:
        """Wait until it shows how far the run came, but not for ever."""
        self.over = True
        self.moved.set()
        self.thread.join(PATIENCE_SECONDS)

    def said(self) -> str:
        """Say where it is."""
        seconds = monotonic() - self.begin
        return f"{self.description}: " + pace(self.done, self.total, self.known, seconds, self.unit)

    def _percent(self) -> int:
        return min(100 * self.done // self.total, 100) if self.total else 100

    def _show(self) -> None:
        """Show where it is, each time that it moved and now and then."""
        shown = -1
        while not (self.over and shown == self.percent):
            self.moved.wait(LOOK_SECONDS)
            self.moved.clear()
            shown = self._told()

    def _told(self) -> int:
        """Show where it is, again and again until the server takes it; return the percent."""
        while True:
            percent = self.percent
            try:
                update_progress_artifact(self.artifact, float(percent), self.said())
            except Exception:  # whatever a server that goes away, or comes back, says
                time.sleep(PAUSE_SECONDS)
            else:
                return percent


def finish() -> None:
    """Wait until a run's page shows where it came to, also where its server was away meanwhile.

    States of tasks travel as events. Those that were sent just before a server went are sent again
    with the next one, so there is one more.
    """
    while _BARS:
        _BARS.pop().close()
    if run := flow_run.id:
        emit_event(ENDED, resource={"prefect.resource.id": f"prefect.flow-run.{run}"})
