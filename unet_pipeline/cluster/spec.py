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
    memory_gb
        Memory of each worker of this machine. None: an even share of the machine's.
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
    memory_gb: float | None = None
    minimum: int = 1
    site: Any = None
    tls: str | None = None
    wait_minutes: float | None = None

    @property
    def most(self) -> int:
        """Workers at most, where a number is asked for or 1 is meant."""
        return self.workers or 1

    @property
    def least(self) -> int:
        """Workers that a cluster that adapts keeps."""
        return min(self.minimum, self.most)
