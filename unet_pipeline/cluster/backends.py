"""Start or reach a cluster, in whichever of ``places`` it is."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import dask
from distributed import Client, Security

from unet_pipeline import logs, stopping
from unet_pipeline.cluster.dashboard import dashboard_config, is_shown
from unet_pipeline.cluster.dask_executor import DaskExecutor
from unet_pipeline.cluster.executor import Executor
from unet_pipeline.cluster.forking import Forget, use_copies
from unet_pipeline.cluster.keepers import Keeper
from unet_pipeline.cluster.monitor import ClusterMonitor, patience_of
from unet_pipeline.cluster.places import place_of
from unet_pipeline.cluster.places.local import memory_of
from unet_pipeline.cluster.plugins import PACKAGE, KeptMemory, PackageLogs, Private, Ready
from unet_pipeline.cluster.room import memory_config, smallest_call
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.tls import security_of
from unet_pipeline.errors import RequestError
from unet_pipeline.processes import ENVIRONMENT
from unet_pipeline.scratch import remove_abandoned, scratch_folder

log = logging.getLogger(__name__)

CONNECT_SECONDS = 20.0
_CONFIG = {
    # calls whose workers died are begun again once; Dask would let them take four workers along
    "distributed.scheduler.allowed-failures": 1,
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS:.0f}s",
    **{f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in ENVIRONMENT.items()},
}


@contextmanager
def starting(spec: ClusterSpec) -> Iterator[Callable[[], Executor]]:
    """Begin to open a cluster, as ``starting.starting`` says."""
    if logs.in_json():
        logs.use_json()  # lines of Dask, too
    with ExitStack() as stack:
        stack.callback(remove_abandoned)  # of workers that were killed, once all have ended
        if place_of(spec.kind).starts_empty:
            client = _open_client(spec, stack)
            yield lambda: _executor(client, spec, stack)
        else:
            yield lambda: _executor(_open_client(spec, stack), spec, stack)


def _executor(client: Client, spec: ClusterSpec, stack: ExitStack) -> DaskExecutor:
    workers = _count_workers(client, spec)
    monitor = ClusterMonitor(client, spec)
    stack.callback(monitor.close)
    monitor.start()
    budget = _call_bytes(client)
    executor = DaskExecutor.of(client, monitor, workers, spec.calls_at_once, budget)
    stack.callback(stopping.wait_for_calls)  # workers of others remove their scratch meanwhile
    stack.enter_context(stopping.on_stop(executor.stop))
    return executor


def _open_client(spec: ClusterSpec, stack: ExitStack) -> Client:
    """Start or reach a scheduler, and say what workers are to do beside their calls."""
    security = security_of(spec)
    ours = "://" not in spec.kind  # a scheduler of others may serve several runs at once
    config = {**_CONFIG, **(dashboard_config(security) if ours else {})}
    if ours:  # what workers of this machine spill is unpickled again: it lies where only we write
        config["temporary-directory"] = str(stack.enter_context(scratch_folder()))
    if place_of(spec.kind).starts_empty:
        config |= memory_config(memory_of(spec))
        config["distributed.worker.multiprocessing-method"] = use_copies()
    stack.enter_context(dask.config.set(config))
    with stopping.signals_held():  # workers outlive Ctrl-C: the driver decides when they end
        client: Client = stack.enter_context(_client(spec, security, stack))
    if not ours or is_shown(security):
        log.info("Dask dashboard at %s", client.dashboard_link)
    client.register_plugin(Private())
    client.register_plugin(KeptMemory())
    client.register_plugin(Keeper())
    if ours:
        client.register_plugin(Ready())
        _forward_logs(client)
    if place_of(spec.kind).starts_empty and client.cluster is not None:
        client.register_plugin(Forget())
        client.cluster.scale(spec.most)  # does not wait for them; plugins wait there
    return client


def _client(spec: ClusterSpec, security: Security | None, stack: ExitStack) -> Client:
    start = place_of(spec.kind).start
    if start is None:
        return _connect(spec.kind, security)
    return Client(stack.enter_context(start(spec, security)), security=security)


def _forward_logs(client: Client) -> None:
    """Let the workers' log lines of this package come out in this process."""
    client.register_plugin(PackageLogs())
    client.forward_logging(PACKAGE)


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


def _call_bytes(client: Client) -> int | None:
    """Return what each call may take on any worker that is there; None without limits."""
    return smallest_call(client.scheduler_info(n_workers=-1)["workers"].values())


def _count_workers(client: Client, spec: ClusterSpec) -> int:
    """Return how many workers there are, or will be; wait for the first, or for all of ours."""
    place, patience = place_of(spec.kind), patience_of(spec)
    try:
        client.wait_for_workers(spec.most if place.starts_empty else 1, timeout=patience)
    except TimeoutError as error:
        raise RequestError(
            "cluster_empty",
            found=f"{spec.kind}: no worker within {patience:.0f} s",
            wanted="at least one worker",
            remedy=place.advice,
        ) from error
    found = len(client.scheduler_info(n_workers=-1)["workers"])
    return max(found, spec.most) if place.adapts else found
