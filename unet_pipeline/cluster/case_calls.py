"""The calls of one case on a Dask cluster: how long they run, and how they are ended.

A call looks at its own clock (``clock.py``). The driver looks, too, for calls that cannot: a store
that does not answer, a frozen worker. It counts only seconds in which the scheduler says that a
call of the case runs, and leaves room for the other calls that share the worker.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from distributed import Client, Future

from unet_pipeline.clock import Clock, out_of_time
from unet_pipeline.cluster.monitor import ClusterMonitor

log = logging.getLogger(__name__)

RESTART_SECONDS = 30.0
LATE_SECONDS = 3.0  # a look at most a second ago, at what was so a second before, and some more


def run_within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function under a clock of its own; what a worker is given."""
    with Clock(seconds).running():
        return function(*arguments)


@dataclass
class CaseCalls:
    """The calls of one case.

    Attributes
    ----------
    seconds
        What they may take.
    patience
        By how much the driver waits longer than a call should need to end itself: as many times
        as calls share a worker, and the seconds by which its looks are late.
    """

    client: Client
    monitor: ClusterMonitor
    seconds: float
    patience: float
    _futures: list[Future[Any]] = field(default_factory=list)
    _spent: float = 0.0
    _looked: float = field(default_factory=monotonic)

    def add(self, future: Future[Any]) -> None:
        """Know one more call."""
        self._futures = [one for one in self._futures if not one.done()]
        self._futures.append(future)

    def check(self) -> None:
        """Raise if calls of the case ran for longer than they may.

        Raises
        ------
        CaseError
            ``time_limit``.
        """
        now = monotonic()
        since, self._looked = now - self._looked, now
        if self._held():
            self._spent += since
        if self._is_over:
            raise out_of_time()

    def give_up(self) -> None:
        """Cancel what waits; restart a worker that a call does not give back."""
        unfinished = [one for one in self._futures if not one.done()]
        if not unfinished:
            return
        stuck = self._held() if self._is_over else set()
        self.client.cancel(unfinished, force=True)
        if stuck:
            log.warning("restarting %d workers that a call does not give back", len(stuck))
            self.client.restart_workers(list(stuck), timeout=RESTART_SECONDS, raise_for_error=False)

    @property
    def _is_over(self) -> bool:
        return self._spent > self.seconds * self.patience + LATE_SECONDS

    def _held(self) -> set[str]:
        """Return the workers that run a call of this case."""
        places = self.monitor.places
        return {
            places[key] for key in map(str, (one.key for one in self._futures)) if key in places
        }
