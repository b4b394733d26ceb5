"""What workers do beside their calls: get ready when they start, log, mind their memory."""

import logging
from importlib import import_module

from distributed import Worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin
from tornado.ioloop import PeriodicCallback

from unet_pipeline import logs, stopping
from unet_pipeline.private import keep_to_ourselves
from unet_pipeline.processes import give_back, guard_logs, lasting_imports
from unet_pipeline.scratch import remove_abandoned

PACKAGE = "unet_pipeline"
CALLS = f"{PACKAGE}.finishing", f"{PACKAGE}.inference.loaded"  # all that workers run
MOST_SHARE = 0.6  # of the limit; Dask begins to spill at 0.7
PERIOD_SECONDS = 0.5


def import_calls(*more: str) -> None:
    """Import what the calls need, and more modules of ours."""
    with lasting_imports():
        for name in (*CALLS, *more):
            import_module(name)


class Private(WorkerPlugin):
    """Lets files of a worker be readable by its user only, and removes what a killed one left."""

    name = "unet-pipeline-private"

    def setup(self, worker: Worker) -> None:
        """Set the umask, and look through the folder for temporary files."""
        keep_to_ourselves()
        remove_abandoned()

    def teardown(self, worker: Worker) -> None:
        """Let calls end where the worker does (its scheduler may be gone), and remove scratch."""
        if worker.status == Status.closing:  # else another run sets the same plugin up
            stopping.stop()


class Ready(WorkerPlugin):
    """Imports what the calls need before the first call comes."""

    name = "unet-pipeline-ready"

    def setup(self, worker: Worker) -> None:
        """Import, and start what compiles and loads."""
        import_calls()
        with lasting_imports():
            from unet_pipeline.tiling.compiling import start_compiled  # imports Numba

            start_compiled()


class PackageLogs(WorkerPlugin):
    """Makes a worker log what the package does, not only what goes wrong."""

    name = "unet-pipeline-logs"

    def setup(self, worker: Worker) -> None:
        """Let lines of information pass, with texts that nothing obeys."""
        guard_logs()
        if logs.in_json():
            logs.use_json()
        logging.getLogger(PACKAGE).setLevel(logging.INFO)
        logging.getLogger("distributed.worker").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop tracebacks of what is said elsewhere.

    Of a call that raised: the error is raised where it was called from. Of a result for somebody
    who is gone: a run that was stopped, or a worker, whose end its scheduler knows.
    """
    return not str(record.msg).startswith(("Compute Failed", "failed during get data"))


class KeptMemory(WorkerPlugin):
    """Gives kept memory back before Dask would stop the worker for it.

    Our processes keep freed memory for the next forward pass (``processes.py``). Dask counts it as
    used: it pauses a worker at 80 % of its limit until memory falls, which kept memory never does.
    """

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
