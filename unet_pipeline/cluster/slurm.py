"""Workers as jobs of Slurm, by dask-jobqueue: one job, one worker, one GPU.

A job's time limit may be shorter than the work. A worker retires before the limit: it takes no new
tasks, hands its results to the others, and ends; ``adapt`` then asks Slurm for another. A job that
is cancelled or fails loses only what it was computing, and that is computed again elsewhere.
"""

import logging
import shlex
import shutil
from collections.abc import Callable
from typing import Any

from distributed import Security

from unet_pipeline.cluster.dashboard import dashboard_options
from unet_pipeline.cluster.sites import SlurmSite
from unet_pipeline.errors import RequestError
from unet_pipeline.processes import ENVIRONMENT
from unet_pipeline.scratch import PREFIX

log = logging.getLogger(__name__)

WORKER = "unet-worker"
# Workers live this share longer or shorter: where all retired at once, none could take over what
# the others hold, and it would have to be computed again.
STAGGER = 1 / 3


def start_slurm(
    site: SlurmSite, *, workers: int, minimum: int, threads: int, security: Security | None = None
) -> Any:
    """Return a cluster whose workers are jobs, between ``minimum`` and ``workers`` of them.

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
        **job_options(site, threads),
    )
    cluster.adapt(minimum_jobs=minimum, maximum_jobs=workers, interval="2s", wait_count=15)
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
