"""Workers of this machine as copies of one process that has imported what their calls need.

Dask starts each worker as a new interpreter, which imports torch and MONAI for some five seconds of
processor time. Here one process beside the driver does so once (the fork server of Python's
``multiprocessing``), and a worker is a copy of it: there at once, in the place of one that died
too, and all of them share the memory of what was imported.

The process has one thread, computes nothing and opens no device: threads of OpenMP, compiled loops
and CUDA begin in the worker. It stays for the next cluster of this driver and ends with the driver,
however that ends.
"""

import multiprocessing
import os
import sys
import tempfile
from functools import cache

import distributed.utils
from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

_PRELOADED = "unet_pipeline.cluster.preloaded"
_MOST_BYTES = 107 - len("/pymp-12345678/listener-12345678")  # of a socket's path, on Linux


def use_copies() -> dict[str, str]:
    """Say what the process imports; return Dask's setting for workers that are copies of it.

    Elsewhere than on Linux, where libraries of the system need not bear it, and where the name of
    the folder for temporary files is too long for a socket in it, workers are new interpreters.
    """
    if sys.platform != "linux" or len(os.fsencode(tempfile.gettempdir())) > _MOST_BYTES:
        return {"distributed.worker.multiprocessing-method": "spawn"}
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOADED])
    distributed.utils._forkserver_preload_set = True  # Dask would choose: its own, and pandas
    _inherited()
    return {"distributed.worker.multiprocessing-method": "forkserver"}


@cache
def _inherited() -> frozenset[str]:
    """Return the names of variables that copies have: this process's at its first cluster."""
    return frozenset(os.environ)


class Forget(WorkerPlugin):
    """Takes from workers the variables that the driver had once and has no longer."""

    name = "unet-pipeline-environment"

    def __init__(self) -> None:
        self.names = _inherited() - set(os.environ)

    def setup(self, worker: Worker) -> None:
        """Forget them."""
        for name in self.names:
            os.environ.pop(name, None)
