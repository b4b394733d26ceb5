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
    threads
        Cases or tiles that a worker has under way: one computes while others are read or written.
    minimum
        Workers that an adapting cluster keeps while a run lasts.
    site
        What a worker's job or pod looks like, for ``slurm`` and ``kubernetes``.
    tls
        Folder of certificates; with it no process talks to one that has none.
    wait_minutes
        How long the first worker may take to come.
    """

    kind: str = "local"
    workers: int | None = None
    threads: int = 2
    minimum: int = 1
    site: Any = None
    tls: str | None = None
    wait_minutes: float = 10.0

    @property
    def adapts(self) -> bool:
        """Whether workers come and go with the work."""
        return self.kind in {"slurm", "kubernetes"}
