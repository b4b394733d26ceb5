"""Workers give kept memory back before Dask would stop them for it.

Our processes keep freed memory for the next forward pass (``processes.py``). Dask counts it as
used: it pauses a worker at 80 % of its limit until memory falls, which kept memory never does.
"""

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin
from tornado.ioloop import PeriodicCallback

from unet_pipeline.processes import give_back

MOST_SHARE = 0.6  # of the limit; Dask begins to spill at 0.7
PERIOD_SECONDS = 0.5


class KeptMemory(WorkerPlugin):
    """Looks at a worker's memory and gives back what is free where it nears the limit."""

    name = "unet-pipeline-memory"

    def setup(self, worker: Worker) -> None:
        """Start to look, on a worker that has a limit."""
        limit_bytes = worker.memory_manager.memory_limit
        if limit_bytes:

            def look() -> None:
                if worker.monitor.get_process_memory() > MOST_SHARE * limit_bytes:
                    give_back()

            worker.periodic_callbacks[self.name] = PeriodicCallback(look, 1000 * PERIOD_SECONDS)
            worker.periodic_callbacks[self.name].start()
