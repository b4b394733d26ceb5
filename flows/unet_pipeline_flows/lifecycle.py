"""What all flows go through: a request is checked, work is done, and how it ended is a state."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any, Protocol, TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.runtime import deployment
from prefect.states import Completed, Failed
from pydantic import BaseModel, ValidationError

from unet_pipeline import logs, stopping
from unet_pipeline.config.allowed import Allowed
from unet_pipeline.config.form import request_of
from unet_pipeline.config.permission import check_allowed
from unet_pipeline.errors import PipelineError, RequestError, RunStopped
from unet_pipeline.storage.links import Links
from unet_pipeline.storage.outage import WAITS_SECONDS, is_of_store
from unet_pipeline_flows.page import finish
from unet_pipeline_flows.saved import saved

STOPPED, AS_ASKED = "StoppedByFault", "StoppedAsAsked"

Settings = TypeVar("Settings", bound=BaseModel)
End = State[dict[str, Any]]


class Result(Protocol):
    """What a job returns at its end, whether it came to it or a fault stopped it."""

    @property
    def stopped(self) -> str:
        """Why it did not come to its end; empty if it did."""

    @property
    def report(self) -> str:
        """URL of its report."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""


def run_checked(
    given: Settings | Mapping[str, Any], work: Callable[[Settings], End], kind: type[Settings]
) -> End:
    """Check a request, do the work, and return how it ended; a fault becomes the run's state.

    Parameters
    ----------
    given
        What a run form was filled with; or the settings themselves.
    """
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    if logs.in_json():
        logs.use_json()
    try:
        settings = given if isinstance(given, kind) else request_of(kind, dict(given), saved)
        end = patiently(work, check_request(settings))
    except PipelineError as error:
        end = _failed(error)
    finish()
    return end


def patiently(work: Callable[[Settings], End], settings: Settings) -> End:
    """Do the work; of a scheduled run, begin again where the store does not answer at first.

    Who starts a run by hand wants to know at once; a night is not lost for a server that restarts.
    """
    for seconds in WAITS_SECONDS if _is_scheduled() else ():
        try:
            return work(settings)
        except RequestError as error:
            if error.code != "endpoint_unreachable":
                raise
            get_run_logger().warning("%s; asking again in %g s", error, seconds)
            sleep(seconds)
    return work(settings)


def check_request(settings: Settings) -> Settings:
    """Refuse what a worker would lose, and what its site does not let runs name.

    Who starts a flow by hand (``python -m unet_pipeline_flows.segment``) may name what he
    likes: he has the rights already that the run would have.

    Returns
    -------
    BaseModel
        The request to go on with: a file of models is in it no longer, but the models are.

    Raises
    ------
    RequestError
        ``output_relative``, what ``check_allowed`` raises, and what the site says wrong of links.
    """
    for name in ("output", "fix"):
        if place := getattr(settings, name, None):
            absolute_output(place)
    Links.from_environment()  # which is wrong before any work, or not at all
    return settings if _by_hand() else check_allowed(settings, Allowed.from_environment())


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


def _failed(error: PipelineError) -> End:
    """Return the end of a run whose request is wrong, or that a fault of the store stopped."""
    said = f"[{error.code}] {error}"
    get_run_logger().error("%s", said)
    name = STOPPED if is_of_store(error) else "WrongRequest"
    return Failed(name=name, message=said, data=error)


def ended(result: Result, message: str, *, faults: bool, as_asked: bool = False) -> End:
    """Return the end of a run that has a report: what stopped it, or as ``completed``.

    Parameters
    ----------
    as_asked
        Whether it stopped because it was asked to, after a time or at a price: no failure.
    """
    if as_asked:
        get_run_logger().info("%s", result.stopped)
        return Completed(name=AS_ASKED, message=result.stopped, data=result.as_dict())
    if not result.stopped:
        return completed(message, result.as_dict(), faults=faults)
    said = f"{result.stopped} Report: {result.report}" if result.report else result.stopped
    get_run_logger().error("%s", said)
    return Failed(name=STOPPED, message=said, data=StoppedError(said))


def completed(message: str, data: Mapping[str, Any], *, faults: bool) -> End:
    """Return a completed state, whose name says if some case needs a look."""
    name = "CompletedWithFaults" if faults else "Completed"
    return Completed(name=name, message=message, data=dict(data))


class StoppedError(RuntimeError):
    """A run that a fault of the store stopped, and whose report is written."""


def run_by_hand(run: Callable[[Any], Any], kind: type[BaseModel]) -> None:
    """Run a flow with the settings in a JSON file that the command line names.

    What is wrong with them, or stopped the run, is said in one line. Exit status as of the command
    line: 2 or 3.
    """
    try:
        run(kind.model_validate_json(Path(sys.argv[1]).read_text()))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # which may be a secret
        sys.stderr.write(f"{'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}\n")
        sys.exit(2)
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


def _is_scheduled() -> bool:
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.auto_scheduled)


def _by_hand() -> bool:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.startswith("unet_pipeline_flows.")
