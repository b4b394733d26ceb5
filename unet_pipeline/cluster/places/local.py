"""Workers as processes of this machine, which share its memory evenly."""

import logging
import os

from distributed import LocalCluster, Security
from distributed.system import MEMORY_LIMIT

from unet_pipeline.cluster.dashboard import dashboard_options
from unet_pipeline.cluster.places.filling import keep_filled
from unet_pipeline.cluster.places.protocol import Place
from unet_pipeline.cluster.spec import ClusterSpec

log = logging.getLogger(__name__)


def memory_of(spec: ClusterSpec) -> int:
    """Return the bytes that each worker of this machine may take."""
    if spec.memory_gb is None:
        return int(MEMORY_LIMIT) // spec.most
    return int(1e9 * spec.memory_gb)


def start_local(spec: ClusterSpec, security: Security | None) -> LocalCluster:
    """Make room for workers; Dask would give them memory by their threads."""
    if not log.isEnabledFor(logging.INFO):
        logging.getLogger("distributed").setLevel(logging.WARNING)  # it sets itself to INFO
    logging.getLogger("distributed.scheduler").addFilter(_somebody_is_told)
    cluster = LocalCluster(
        n_workers=0,
        memory_limit=memory_of(spec),
        security=security,
        protocol="tls://" if security else None,
        threads_per_worker=spec.calls_at_once,
        processes=True,
        scheduler_kwargs=dashboard_options(security),
        silence_logs=40,
        env=dict(os.environ),  # as it is now; copies have what the first cluster had (forking)
    )
    keep_filled(cluster)
    return cluster


def _somebody_is_told(record: logging.LogRecord) -> bool:
    """Drop what calls that end say to a run that has ended before them, with its traceback."""
    return not str(record.msg).startswith("Closed comm")


PLACE = Place(
    start_local,
    advice="Look at the memory of this machine and at the workers' last words",
    starts_empty=True,
)
