"""What all flows share: what they ask of a request, links to its output, and how they are ended."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.runtime import deployment
from prefect.states import Failed
from pydantic import BaseModel

from unet_pipeline import stopping
from unet_pipeline.config.allowed import Allowed
from unet_pipeline.config.permission import check_allowed
from unet_pipeline.errors import PipelineError, RequestError, RunStopped
from unet_pipeline.storage.outage import is_of_store

STOPPED = "StoppedByFault"


def check_request(settings: BaseModel) -> None:
    """Refuse what a worker would lose, and what its site does not let runs name.

    Who starts a flow by hand (``python -m unet_pipeline_flows.segment_cohort``) may name what he
    likes: he has the rights already that the run would have.

    Raises
    ------
    RequestError
        ``output_relative``, and what ``check_allowed`` raises.
    """
    for name in ("output", "fix"):
        if place := getattr(settings, name, None):
            absolute_output(place)
    if not _by_hand():
        check_allowed(settings, Allowed.from_environment())


def absolute_output(output: str) -> None:
    """Refuse what a worker would remove: it runs a deployment in a temporary folder."""
    if deployment.id and "://" not in output and not Path(output).is_absolute():
        raise RequestError(
            "output_relative",
            subject=output,
            found="a relative path, in the worker's temporary folder",
            wanted="a URL or an absolute path",
            remedy="Give the whole path of the output",
        )


def failed(error: PipelineError) -> State[dict[str, Any]]:
    """Return the end of a run whose request is wrong, or that a fault of the store stopped."""
    said = f"[{error.code}] {error}"
    get_run_logger().error("%s", said)
    name = STOPPED if is_of_store(error) else "WrongRequest"
    return Failed(name=name, message=said, data=error)


class StoppedError(RuntimeError):
    """A run that a fault of the store stopped, and whose report is written."""


def stopped(sentence: str, report: str) -> State[dict[str, Any]]:
    """Return the end of a run that a fault of the store stopped, with the place of its report."""
    said = f"{sentence} Report: {report}" if report else sentence
    get_run_logger().error("%s", said)
    return Failed(name=STOPPED, message=said, data=StoppedError(said))


def run_by_hand(run: Callable[[Any], Any], kind: type[BaseModel]) -> None:
    """Run a flow with the settings in a JSON file that the command line names.

    What is wrong with them, or stopped the run, is said in one line. Exit status as of the command
    line: 2 or 3.
    """
    try:
        run(kind.model_validate_json(Path(sys.argv[1]).read_text()))
    except (PipelineError, StoppedError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3 if isinstance(error, StoppedError) or is_of_store(error) else 2)


@contextmanager
def cancellable(report: Callable[[RunStopped], object] | None = None) -> Iterator[None]:
    """Let all work of the block end where Prefect cancels the run, and report what was done.

    Prefect sends SIGTERM, and kills a process that has not ended half a minute later.
    """
    try:
        yield
    except (KeyboardInterrupt, TerminationSignal) as ended:
        stopping.stop()
        number = getattr(ended, "signal", signal.SIGINT)
        why = stopping.by_signal(f"{signal.Signals(number).name}, as Prefect cancels a run")
        if report is not None:
            with suppress(PipelineError):
                report(why)
        stopping.wait_for_calls()  # which remove their scratch
        raise


def _by_hand() -> bool:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.startswith("unet_pipeline_flows.")


def link_to(place: str) -> str:
    """Return what a browser opens: the URL itself, or that of a local file."""
    return place if "://" in place else Path(place).resolve().as_uri()
