"""What the flows show on the page of a run while it goes, and at its end."""

from contextvars import copy_context
from functools import partial
from threading import Event, Thread
from time import monotonic
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run

from unet_pipeline.durations import pace
from unet_pipeline_flows.away import await_server, lasting

ENDED = "unet-pipeline.run.ended"
LOOK_SECONDS = 30.0  # between two looks at a bar that does not move
BAR_SECONDS = 60.0  # for the bar, where the server is there
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
        self.moved, self.over = Event(), False
        here = copy_context()  # of the flow run, whose bar it is
        self.thread = Thread(target=here.run, args=(self._show,), daemon=True)
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
        await_server()
        self.thread.join(BAR_SECONDS)

    def said(self) -> str:
        """Say where it is."""
        seconds = monotonic() - self.begin
        return f"{pace(self.done, self.total, self.known, seconds, self.unit)}. {self.description}"

    def _percent(self) -> int:
        return min(100 * self.done // self.total, 100) if self.total else 100

    def _show(self) -> None:
        """Show where it is, each time that it moved and now and then."""
        bar, shown = lasting(self._made), -1
        while not (self.over and shown == self.percent):
            self.moved.wait(LOOK_SECONDS)
            self.moved.clear()
            shown = lasting(partial(self._told, bar))

    def _made(self) -> UUID:
        return cast(UUID, create_progress_artifact(float(self.percent), description=self.said()))

    def _told(self, bar: UUID) -> int:
        """Show where it is; return the percent."""
        percent = self.percent
        update_progress_artifact(bar, float(percent), self.said())
        return percent


def finish() -> None:
    """Wait until a run's page shows where it came to, also where its server was away meanwhile.

    States of tasks travel as events. Those that were sent just before a server went are sent again
    with the next one, so there is one more.
    """
    while _BARS:
        _BARS.pop().close()
    if run := flow_run.id:
        await_server()
        emit_event(ENDED, resource={"prefect.resource.id": f"prefect.flow-run.{run}"})
