"""What a worker's job or pod looks like at one site, as its operator wrote it down."""

from dataclasses import dataclass
from typing import Any, Literal

RETIRE_SHARE = 0.1  # of the time limit that a worker keeps for retiring, ...
RETIRE_SECONDS = (20, 300)  # ... within these bounds
MOST_MINUTES, MOST_GB, MOST_CORES = 366 * 24 * 60, 100_000, 10_000


@dataclass(frozen=True)
class SlurmSite:
    """What a job of this site looks like.

    Attributes
    ----------
    time_minutes
        Time limit of a job.
    gpus
        GPUs of a worker: 0 or 1. ``gres`` is how the site spells it, e.g. ``gpu:a100``.
    cores, memory_gb
        Cores and memory (GB) of a job.
    directives
        More options of sbatch, each as it stands after ``#SBATCH``.
    prologue
        Lines of shell that each job runs first, such as ``module load cuda``.
    logs, scratch
        Folders of the jobs' output, seen by all nodes, and of workers' files, on a node's own disk.
    interface
        Network interface that workers reach the scheduler by, e.g. ``ib0``.
    """

    __pydantic_config__ = {"extra": "forbid"}  # read from a file of the operator's  # noqa: RUF012

    partition: str | None = None
    account: str | None = None
    time_minutes: float = 240.0
    gpus: int = 1
    gres: str = "gpu"
    cores: int = 8
    memory_gb: float = 32.0
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    logs: str | None = None
    scratch: str | None = None
    interface: str | None = None
    python: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no job has."""
        for name, value, low, high in (
            ("time_minutes", self.time_minutes, 1, MOST_MINUTES),
            ("memory_gb", self.memory_gb, 0.5, MOST_GB),
            ("cores", self.cores, 1, MOST_CORES),
            ("gpus", self.gpus, 0, 1),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} is {value:g}, and must be {low:g} to {high:g}")

    @property
    def time_limit(self) -> str:
        """The time limit as Slurm writes it, ``hours:minutes:seconds``."""
        minutes, seconds = divmod(round(self.time_minutes * 60), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:02d}:{minutes:02d}:{seconds:02d}"

    @property
    def spare_seconds(self) -> float:
        """How long before the end of its job a worker retires."""
        low, high = RETIRE_SECONDS
        return min(max(self.time_minutes * 60 * RETIRE_SHARE, low), high)


@dataclass(frozen=True)
class KubernetesSite:
    """A ``DaskCluster`` manifest: its ``spec`` holds the pods of scheduler and workers."""

    __pydantic_config__ = {"extra": "forbid"}  # read from a file of the operator's  # noqa: RUF012

    apiVersion: Literal["kubernetes.dask.org/v1"]
    kind: Literal["DaskCluster"]
    metadata: dict[str, Any]
    spec: dict[str, Any]
