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

import distributed.utils
from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

_had: set[str] = set()  # names of the variables that this process had when a cluster began
_PRELOADED = "unet_pipeline.cluster.preloaded"
_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, of AMD, of Windows
_MOST_BYTES = 107 - len("/pymp-12345678/listener-12345678")  # of a socket's path, on Linux


def use_copies() -> str:
    """Say what the process imports; return Python's name of how workers are started.

    Workers are new interpreters elsewhere than on Linux, whose libraries need not bear it; where
    there is a GPU, for a process that has so much as counted devices must not be copied; and where
    the name of the folder for temporary files is too long for a socket in it.
    """
    long = len(os.fsencode(tempfile.gettempdir())) > _MOST_BYTES
    if sys.platform != "linux" or long or any(map(os.path.exists, _GPUS)):
        return "spawn"
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOADED])
    distributed.utils._forkserver_preload_set = True  # Dask would choose: its own, and pandas
    _had.update(os.environ)
    return "forkserver"


class Forget(WorkerPlugin):
    """Takes from workers the variables that the driver had once and has no longer."""

    name = "unet-pipeline-environment"

    def __init__(self) -> None:
        self.names = _had - set(os.environ)

    def setup(self, worker: Worker) -> None:
        """Forget them."""
        for name in self.names:
            os.environ.pop(name, None)
