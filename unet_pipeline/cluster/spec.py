"""Where work is to run, as plain values."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ClusterSpec:
    """A place where work can run.

    Attributes
    ----------
    kind
        ``serial``, ``local``, ``cuda``, ``slurm``, ``kubernetes``, or the address of a scheduler,
        ``tcp://host:port`` or ``tls://host:port``.
    workers
        Worker processes, at most where their number adapts. None: one, or one per GPU for
        ``cuda``.
    calls_at_once
        Cases or tiles that a worker has under way: one computes while others are read or written.
    minimum
        Workers that an adapting cluster keeps while a run lasts.
    site
        What a worker's job or pod looks like, for ``slurm`` and ``kubernetes``.
    tls
        Folder of certificates; with it no process talks to one that has none.
    wait_minutes
        How long to wait where there is no worker: for the first, and for another where all are
        lost. None: as long as workers of that kind may take.
    """

    kind: str = "local"
    workers: int | None = None
    calls_at_once: int = 2
    minimum: int = 1
    site: Any = None
    tls: str | None = None
    wait_minutes: float | None = None

    @property
    def wait_seconds(self) -> float:
        """How long to wait where there is no worker.

        Jobs and pods stand in a queue. Workers of this machine are started again, be it ever so
        busy; of others' nobody knows.
        """
        if self.wait_minutes is not None:
            return 60 * self.wait_minutes
        return 600.0 if self.adapts else 60.0 if "://" in self.kind else 180.0

    @property
    def adapts(self) -> bool:
        """Whether workers come and go with the work."""
        return self.kind in {"slurm", "kubernetes"}
