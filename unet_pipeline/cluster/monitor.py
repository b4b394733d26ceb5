"""What a Dask cluster says of itself, asked once a second: which calls run, and on which workers.

Dask waits for workers and for its scheduler without end. Workers that were lost may come again: a
nanny starts one anew, a job or a pod is replaced. A cluster that has none for longer than the first
one may take is lost, and the run with it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event, Thread
from time import monotonic
from typing import Any

from distributed import Client

from unet_pipeline.cluster.places import place_of
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.errors import RunStopped

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
ANSWER_SECONDS = 10.0  # after which a scheduler has not answered, and is asked again
SILENCE_SECONDS = 60.0  # in which a busy scheduler, or a driver that imports, answers
MOST_SECONDS = 2 * ANSWER_SECONDS  # from one look to the next that count: this process may sleep
NO_WORKER, NO_SCHEDULER, SILENCE = "no worker", "no scheduler", "no answer of the scheduler"


@dataclass
class ClusterMonitor:
    """Looks at a cluster in a thread of its own, from ``start`` to ``close``.

    Attributes
    ----------
    places
        Keys of the calls that run, and on which worker.
    lost
        Why the cluster is lost, once it is.
    """

    client: Client
    spec: ClusterSpec
    places: Mapping[str, str] = field(default_factory=dict)
    lost: RunStopped | None = None
    _closed: Event = field(default_factory=Event)

    def start(self) -> None:
        """Begin to look."""
        Thread(target=self._look, name="cluster", daemon=True).start()

    def close(self) -> None:
        """Look no longer: the run ends."""
        self._closed.set()

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self._closed.is_set()

    def check(self) -> None:
        """Raise if the cluster is lost.

        Raises
        ------
        RunStopped
            ``cluster_lost``.
        """
        if self.lost is not None:
            raise self.lost

    def _look(self) -> None:
        """Ask again and again; only seconds in which this process runs count as missing."""
        missing, looked = 0.0, monotonic()
        while not self._closed.is_set():
            found = self._ask()
            now = monotonic()
            missing = 0.0 if found is None else missing + min(now - looked, MOST_SECONDS)
            looked = now
            if self._is_too_long(found, missing) and not self._closed.is_set():
                self.lost = _lost(self.spec, found or NO_SCHEDULER, missing)
                logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
                return  # all is said; it would tell by tracebacks that it looked in vain
            self._closed.wait(EVERY_SECONDS)

    def _is_too_long(self, found: str | None, missing: float) -> bool:
        if self.client.status == "closed":  # it looked for its scheduler, and gave up
            return True
        patience = patience_of(self.spec)
        return missing > (max(patience, SILENCE_SECONDS) if found == SILENCE else patience)

    def _ask(self) -> str | None:
        """Look which calls run; return what there is in the place of workers."""
        self.places, workers, found = {}, 0, NO_WORKER
        if self.client.status != "running":
            return NO_SCHEDULER
        try:
            workers, self.places = self.client.run_on_scheduler(
                _state, callback_timeout=ANSWER_SECONDS
            )
        except Exception as error:
            log.debug("the scheduler does not answer: %s", error)
            found = SILENCE
        return None if workers else found


def _state(dask_scheduler: Any) -> tuple[int, dict[str, str]]:
    """Return the number of workers, and what runs by their last word; on the scheduler."""
    workers = dask_scheduler.workers.values()
    return len(workers), {call.key: one.address for one in workers for call in one.executing}


def _lost(spec: ClusterSpec, there: str, seconds: float) -> RunStopped:
    return RunStopped(
        "cluster_lost", subject=f"--cluster {spec.kind}",
        found=f"{there} for {seconds:.0f} s, in the middle of the run",
        wanted="a worker", remedy=place_of(spec.kind).advice,
    )  # fmt: skip


def patience_of(spec: ClusterSpec) -> float:
    """Return the seconds to wait where there is no worker."""
    asked = spec.wait_minutes
    return place_of(spec.kind).wait_seconds if asked is None else 60 * asked
