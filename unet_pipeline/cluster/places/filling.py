"""Workers of this machine whose nanny gave up, in whose place new ones are started.

A nanny starts a worker again that dies, but not one that dies while it starts: then the nanny ends,
and Dask has a worker less until the run ends.
"""

import asyncio
import logging

from distributed import LocalCluster
from distributed.core import Status

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
_OVER = {Status.closing, Status.closed, Status.failed}


def keep_filled(cluster: LocalCluster) -> None:
    """Look again and again whether a cluster has the workers that it was asked for."""
    if cluster.loop is not None:
        cluster.loop.add_callback(_keep_filled, cluster)


async def _keep_filled(cluster: LocalCluster) -> None:
    while cluster.status not in _OVER:
        await asyncio.sleep(EVERY_SECONDS)
        gone = [name for name, nanny in cluster.workers.items() if nanny.status in _OVER]
        for name in gone:
            del cluster.workers[name]
        if gone and cluster.status not in _OVER:
            log.warning("%d workers died while they started; others are started", len(gone))
        if cluster.worker_spec.keys() - cluster.workers.keys():
            cluster.scale(len(cluster.worker_spec))
