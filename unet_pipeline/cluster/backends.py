"""Start or reach a cluster: one function for each place where work can run."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import dask
from distributed import Client, LocalCluster, Worker
from distributed.diagnostics.plugin import WorkerPlugin

from unet_pipeline.cluster.dask_executor import DaskExecutor
from unet_pipeline.cluster.executor import Executor, SerialExecutor
from unet_pipeline.errors import RequestError

log = logging.getLogger(__name__)

PACKAGE = "unet_pipeline"
THREADS_PER_WORKER = 2  # one computes while the other reads or writes another case
CONNECT_SECONDS = 20.0

_CONFIG = {
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS:.0f}s",
    # OpenMP threads that spin while they wait take the cores from the other workers.
    "distributed.nanny.pre-spawn-environ.OMP_WAIT_POLICY": "PASSIVE",
    "distributed.nanny.pre-spawn-environ.GOMP_SPINCOUNT": "0",
}


@contextmanager
def open_executor(kind: str, workers: int | None = None) -> Iterator[Executor]:
    """Open the executor of a cluster, and close what was opened when the block ends.

    Parameters
    ----------
    kind
        ``serial``, ``local``, ``cuda``, or the address of a scheduler, ``tcp://host:port``.
    workers
        Worker processes for ``local`` (default 1) and ``cuda`` (default one per GPU).

    Raises
    ------
    RequestError
        ``cluster_unreachable``, ``cluster_empty`` or ``cuda_missing``.
    """
    if kind == "serial":
        yield SerialExecutor()
        return
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_CONFIG))
        if kind == "local":
            client = stack.enter_context(Client(stack.enter_context(_local(workers or 1))))
        elif kind == "cuda":
            client = stack.enter_context(Client(stack.enter_context(_cuda(workers))))
        else:
            client = stack.enter_context(_connect(kind))
        log.info("Dask dashboard at %s", client.dashboard_link)
        if kind in {"local", "cuda"}:  # a scheduler of others may serve several runs at once
            _forward_logs(client)
        yield DaskExecutor(client, _count_workers(client, kind))


class _PackageLogs(WorkerPlugin):
    """Makes a worker log what the package does, not only what goes wrong."""

    name = "unet-pipeline-logs"

    def setup(self, worker: Worker) -> None:
        logging.getLogger(PACKAGE).setLevel(logging.INFO)


def _forward_logs(client: Client) -> None:
    """Let the workers' log lines of this package come out in this process."""
    client.register_plugin(_PackageLogs())
    client.forward_logging(PACKAGE)


def _local(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=THREADS_PER_WORKER,
        processes=True,
        dashboard_address=os.environ.get("UNET_PIPELINE_DASHBOARD", "127.0.0.1:0"),
        silence_logs=40,
    )


def _cuda(workers: int | None) -> LocalCluster:
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise RequestError(
            "cuda_missing",
            found="no dask-cuda in this environment",
            wanted="dask-cuda, which gives each worker one GPU",
            remedy="pip install 'unet-pipeline[cuda]', or start one `dask worker` per GPU with "
            "CUDA_VISIBLE_DEVICES set and use --cluster tcp://...",
        ) from error
    cluster: LocalCluster = LocalCUDACluster(
        n_workers=workers, threads_per_worker=THREADS_PER_WORKER
    )
    return cluster


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except OSError as error:
        raise RequestError(
            "cluster_unreachable",
            found=f"no Dask scheduler at {address} within {CONNECT_SECONDS:.0f} s",
            wanted="a running scheduler",
            remedy="Start one with `dask scheduler`, or correct the address",
        ) from error


def _count_workers(client: Client, kind: str) -> int:
    found = len(client.scheduler_info(n_workers=-1)["workers"])
    if found == 0:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise RequestError(
                "cluster_empty",
                found=f"a scheduler at {kind} without workers",
                wanted="at least one worker",
                remedy="Start one with `dask worker ADDRESS`",
            ) from error
        found = len(client.scheduler_info(n_workers=-1)["workers"])
    return found
