"""Runs whose worker died: they go on, and what a worker would do for them is done here."""

import signal
import time
from dataclasses import dataclass, field

from unet_pipeline.local.flow_processes import flow_processes, lives, signal_group
from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.local.prefect_worker import STOPPED, runs_under_way, set_state

KILL_SECONDS = 30.0  # after a cancelled run was told to end, as Prefect's worker has it
ENDED = "Its process ended, and so had its worker. Run it again: finished cases are skipped."
CANCELLED = "Cancelled; its worker had ended."


@dataclass
class Orphans:
    """The runs that a worker left behind when it died.

    Attributes
    ----------
    pids
        The process of each run, by run id.
    told
        When a cancelled run was told to end, by run id.
    """

    server: PrefectApi
    pids: dict[str, int] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)

    def adopt(self) -> None:
        """Take over the runs of a worker that is gone, before the next one starts.

        A run whose process lives goes on. One that had none yet is scheduled again, for the next
        worker. One whose process ended, too, has crashed.
        """
        alive = flow_processes(self.server.home)
        for run in runs_under_way(self.server):
            name = run["id"]
            if name in alive:
                self.pids[name] = alive[name]
            elif run["state_type"] == "PENDING":
                set_state(self.server, name, "SCHEDULED", "Its worker ended before it began.")
            else:
                self._close(name, run["state_type"] == "CANCELLING", STOPPED)

    def look(self) -> None:
        """End those that were cancelled, and say what became of those that ended."""
        for name, pid in [*self.pids.items()]:
            run = self.server.api(f"/flow_runs/{name}")
            kind = "" if run is None else run["state_type"]  # it may have been deleted
            if kind == "CANCELLING":
                self._end(name, pid)
            if lives(pid):
                continue
            del self.pids[name]
            cancelled = self.told.pop(name, None) is not None or kind == "CANCELLING"
            if kind in ("PENDING", "RUNNING") or cancelled:
                self._close(name, cancelled, ENDED)

    def _end(self, name: str, pid: int) -> None:
        begin = self.told.setdefault(name, time.monotonic())
        late = time.monotonic() - begin > KILL_SECONDS
        if late or time.monotonic() - begin < 1:  # once, and not at each look
            signal_group(pid, signal.SIGKILL if late else signal.SIGTERM)

    def _close(self, name: str, cancelled: bool, message: str) -> None:
        if cancelled:
            set_state(self.server, name, "CANCELLED", CANCELLED)
        else:
            set_state(self.server, name, "CRASHED", message)
