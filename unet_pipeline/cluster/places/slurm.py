"""Workers as jobs of Slurm, by dask-jobqueue: one job, one worker, one GPU.

A job's time limit may be shorter than the work. A worker retires before the limit: it takes no new
tasks, hands its results to the others, and ends; ``adapt`` then asks Slurm for another. A job that
is cancelled or fails loses only what it was computing, and that is computed again elsewhere.
"""

import logging
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any

from distributed import Security

from unet_pipeline.cluster.dashboard import dashboard_options
from unet_pipeline.cluster.places.protocol import Place
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.errors import RequestError
from unet_pipeline.processes import ENVIRONMENT
from unet_pipeline.scratch import PREFIX

log = logging.getLogger(__name__)

WORKER = "unet-worker"
# Workers live this share longer or shorter: where all retired at once, none could take over what
# the others hold, and it would have to be computed again.
STAGGER = 1 / 3
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
                raise ValueError(f"{name} is {shortened(value)}, and must be {low:g} to {high:g}")

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


def start_slurm(spec: ClusterSpec, security: Security | None = None) -> Any:
    """Return a cluster whose workers are jobs, between ``spec.least`` and ``spec.most`` of them.

    Raises
    ------
    RequestError
        ``slurm_missing`` without dask-jobqueue or Slurm's commands.
    """
    make = _slurm_cluster()
    cluster = make(
        name="unet-pipeline",
        job_name=WORKER,
        security=security,
        scheduler_options=dashboard_options(security),
        silence_logs=logging.ERROR,
        **job_options(spec.site, spec.calls_at_once),
    )
    cluster.adapt(minimum_jobs=spec.least, maximum_jobs=spec.most, interval="2s", wait_count=15)
    return cluster


def job_options(site: SlurmSite, threads: int) -> dict[str, Any]:
    """Return what dask-jobqueue is told of one job.

    The worker has ``threads`` threads for Dask: one computes, the others read and write.
    """
    latest = max(site.time_minutes * 60 - site.spare_seconds, 1)
    lifetime = latest / (1 + STAGGER)
    gpu = (f"--gres={site.gres}:{site.gpus}",) if site.gpus else ()
    return {
        "queue": site.partition,
        "account": site.account,
        "walltime": site.time_limit,
        "processes": 1,
        "cores": threads,
        "job_cpu": site.cores,
        "memory": f"{site.memory_gb:g}GB",
        "python": site.python,
        "interface": site.interface,
        "log_directory": site.logs,
        "job_extra_directives": [*gpu, *site.directives],
        "job_script_prologue": [
            *_private_lines(site.scratch),
            *(f"export {name}={value}" for name, value in ENVIRONMENT.items()),
            f"export OMP_NUM_THREADS={site.cores} MKL_NUM_THREADS={site.cores}",
            *site.prologue,
        ],
        "worker_extra_args": [
            "--lifetime",
            f"{lifetime:.0f}s",
            "--lifetime-stagger",
            f"{STAGGER * lifetime:.0f}s",
            "--no-dashboard",
        ],
    }


def _private_lines(scratch: str | None) -> tuple[str, ...]:
    """Return the lines of shell that make a folder for the worker's files that is the job's alone.

    A worker unpickles what it spills. The folder has a name that nobody can guess, and a lock that
    ends with the job: as those of ``scratch.py``.
    """
    parent = shlex.quote(scratch) if scratch else '"${TMPDIR:-/tmp}"'
    return (
        "umask 077",
        f"DASK_TEMPORARY_DIRECTORY=$(mktemp -d {parent}/{PREFIX}XXXXXXXXXXXXXXXX) || exit 1",
        "export DASK_TEMPORARY_DIRECTORY",
        """trap 'rm -rf "$DASK_TEMPORARY_DIRECTORY"' EXIT""",
        'exec 9> "$DASK_TEMPORARY_DIRECTORY/.new"',
        'flock -n 9 && mv "$DASK_TEMPORARY_DIRECTORY/.new" "$DASK_TEMPORARY_DIRECTORY/.lock"',
    )


def _slurm_cluster() -> Callable[..., Any]:
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise _missing("no dask-jobqueue in this environment", "dask-jobqueue",
                       "pip install 'unet-pipeline[slurm]'") from error  # fmt: skip
    if shutil.which("sbatch") is None:
        raise _missing(
            "no sbatch on PATH",
            "Slurm's commands",
            "Start the run on a login node or inside a job of the Slurm cluster",
        )
    cluster: Callable[..., Any] = SLURMCluster
    return cluster


def _missing(found: str, wanted: str, remedy: str) -> RequestError:
    return RequestError("slurm_missing", found=found, wanted=wanted, remedy=remedy)


PLACE = Place(
    start_slurm,
    advice="Look at `squeue` and the jobs' logs; raise --wait-minutes where the queue is long",
    wait_seconds=600.0,
    adapts=True,
    site=SlurmSite,
)
