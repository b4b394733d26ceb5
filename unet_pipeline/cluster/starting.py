"""Begin what executes calls: this process itself, or Dask, which is imported only then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unet_pipeline import logs
from unet_pipeline.cluster.executor import Executor, SerialExecutor
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.private import keep_to_ourselves
from unet_pipeline.processes import guard_logs, prepare_process
from unet_pipeline.scratch import remove_abandoned


@contextmanager
def open_executor(spec: ClusterSpec) -> Iterator[Executor]:
    """Open the executor of a cluster, and close what was opened when the block ends.

    Raises
    ------
    RequestError
        As ``starting``.
    """
    with starting(spec) as opened:
        yield opened()


@contextmanager
def starting(spec: ClusterSpec) -> Iterator[Callable[[], Executor]]:
    """Begin to open an executor; a call of what is yielded waits for its workers and returns it.

    Workers of this machine start and import in the meantime, so that a request can be checked while
    they do. Jobs, pods and schedulers of others are asked for only by the call. All is closed when
    the block ends.

    Raises
    ------
    RequestError
        ``cluster_unreachable``, ``cluster_empty``, ``cuda_missing``, ``gpu_missing``,
        ``slurm_missing``, ``kubernetes_missing``; those of ``security_of``.
    """
    guard_logs()
    if logs.in_json():
        logs.use_json()
    keep_to_ourselves()
    remove_abandoned()
    if spec.kind == "serial":
        prepare_process()
        yield SerialExecutor
        return
    from unet_pipeline.cluster import backends

    with backends.starting(spec) as opened:
        yield opened
