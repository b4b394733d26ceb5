"""Start or reach a cluster: one function for each place where work can run."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
from distributed import Client, LocalCluster, Security
from distributed.system import MEMORY_LIMIT

from unet_pipeline.cluster.dask_executor import DaskExecutor
from unet_pipeline.cluster.executor import Executor, SerialExecutor
from unet_pipeline.cluster.plugins import PACKAGE, KeptMemory, PackageLogs, Ready
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.tls import security_of
from unet_pipeline.errors import RequestError
from unet_pipeline.processes import ENVIRONMENT, prepare_process

log = logging.getLogger(__name__)

CONNECT_SECONDS = 20.0

_NO_WORKER = {
    "slurm": "Look at `squeue` and the jobs' logs; raise --wait-minutes where the queue is long",
    "kubernetes": "Look at `kubectl get pods` and their events; raise --wait-minutes",
}
_CONFIG = {
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS:.0f}s",
    **{f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in ENVIRONMENT.items()},
}


@contextmanager
def open_executor(spec: ClusterSpec) -> Iterator[Executor]:
    """Open the executor of a cluster, and close what was opened when the block ends.

    Raises
    ------
    RequestError
        ``cluster_unreachable``, ``cluster_empty``, ``cuda_missing``, ``slurm_missing``,
        ``kubernetes_missing``; those of ``security_of``.
    """
    if spec.kind == "serial":
        prepare_process()
        yield SerialExecutor()
        return
    security = security_of(spec)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_CONFIG))
        client = stack.enter_context(_client(spec, security, stack))
        log.info("Dask dashboard at %s", client.dashboard_link)
        client.register_plugin(KeptMemory())
        if "://" not in spec.kind:  # a scheduler of others may serve several runs at once
            client.register_plugin(Ready())
            _forward_logs(client)
        yield DaskExecutor(client, _count_workers(client, spec), spec.threads)


def _client(spec: ClusterSpec, security: Security | None, stack: ExitStack) -> Client:
    if "://" in spec.kind:
        return _connect(spec.kind, security)
    return Client(stack.enter_context(_cluster(spec, security)), security=security)


def _cluster(spec: ClusterSpec, security: Security | None) -> Any:
    """Start a cluster that ends with the run."""
    workers = spec.workers or 1
    if spec.kind == "local":
        return _local(workers, spec.threads, security)
    if spec.kind == "cuda":
        return _cuda(spec.workers, spec.threads, security)
    start: Callable[..., Any]
    if spec.kind == "kubernetes":
        from unet_pipeline.cluster.kubernetes import start_kubernetes as start
    else:
        from unet_pipeline.cluster.slurm import start_slurm as start
    return start(
        spec.site,
        workers=workers,
        minimum=min(spec.minimum, workers),
        threads=spec.threads,
        security=security,
    )


def _forward_logs(client: Client) -> None:
    """Let the workers' log lines of this package come out in this process."""
    client.register_plugin(PackageLogs())
    client.forward_logging(PACKAGE)


def _local(workers: int, threads: int, security: Security | None) -> LocalCluster:
    """Start workers that share the machine's memory; Dask would go by their threads."""
    return LocalCluster(
        n_workers=workers,
        memory_limit=MEMORY_LIMIT // workers,
        security=security,
        protocol="tls://" if security else None,
        threads_per_worker=threads,
        processes=True,
        dashboard_address=os.environ.get("UNET_PIPELINE_DASHBOARD", "127.0.0.1:0"),
        silence_logs=40,
    )


def _cuda(workers: int | None, threads: int, security: Security | None) -> LocalCluster:
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
        n_workers=workers,
        threads_per_worker=threads,
        security=security,
        protocol="tls://" if security else None,
    )
    return cluster


def _connect(address: str, security: Security | None) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS, security=security)
    except OSError as error:
        raise RequestError(
            "cluster_unreachable",
            found=f"no Dask scheduler at {address} within {CONNECT_SECONDS:.0f} s that lets us in",
            wanted="a running scheduler",
            remedy="Start one with `dask scheduler`, or correct the address or the certificates",
        ) from error


def _count_workers(client: Client, spec: ClusterSpec) -> int:
    """Return how many workers there are, or will be; wait for the first."""
    seconds = 60 * spec.wait_minutes if spec.adapts else CONNECT_SECONDS
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        raise RequestError(
            "cluster_empty",
            found=f"{spec.kind}: no worker within {seconds:.0f} s",
            wanted="at least one worker",
            remedy=_NO_WORKER.get(spec.kind, "Start one with `dask worker ADDRESS`"),
        ) from error
    found = len(client.scheduler_info(n_workers=-1)["workers"])
    return max(found, spec.workers or 1) if spec.adapts else found
