"""What the commands share: errors in one line, JSON lines, what each file was taken for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from unet_pipeline.errors import PipelineError, RequestError, RunStopped
from unet_pipeline.records import json_text
from unet_pipeline.stopping import Stopped, by_signal, received

if TYPE_CHECKING:
    from unet_pipeline.config import CheckSettings, SegmentSettings


@contextmanager
def request_errors() -> Iterator[None]:
    """Turn an error into one line: exit status 3 for a fault of the store, 2 for a wrong request.

    A fault of one object ends the command, too, where no case can be quarantined.
    """
    from unet_pipeline.console import say_error
    from unet_pipeline.storage.outage import is_of_store

    try:
        yield
    except PipelineError as error:
        say_error(error)
        raise typer.Exit(3 if is_of_store(error) else 2) from error


@dataclass
class Stop:
    """What stopped a loop over cases, if anything did: a fault that concerns all, or a signal."""

    why: RunStopped | None = None
    signal: Stopped | None = None

    def go_on(self) -> None:
        """Let a signal end the command, now that what was done is written."""
        if self.signal is not None:
            raise self.signal


@contextmanager
def until_stopped() -> Iterator[Stop]:
    """Leave a block where the run or a signal stops it, so that what was done can be written."""
    stop = Stop()
    try:
        yield stop
    except RunStopped as error:
        stop.why = error
    except (Stopped, Exception):
        if received() is None:
            raise
    if (signal := received()) is not None:
        stop.signal, stop.why = signal, by_signal(str(signal))


def numbers(text: str, kind: Callable[[str], Any], option: str) -> tuple[Any, ...]:
    """Return the numbers of ``N,N,...``; ``option`` is named if they are none."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise RequestError(
            "setting_invalid",
            found=repr(text),
            wanted=f"numbers with commas between them for {option}",
            remedy="See --help",
        ) from None


def show_files(settings: "SegmentSettings | CheckSettings", as_json: bool) -> int:
    """Show what each file was taken for; return how many cases are at fault by their files."""
    from unet_pipeline import console
    from unet_pipeline.request import list_cohort

    with console.waiting("Listing the cohort"):
        cohort = list_cohort(settings)
    for file in cohort.classified():
        print_json(file.as_dict(), when=as_json)
        if not as_json:
            console.print_file(file)
    if as_json:
        print_json(cohort.accounting.as_dict())
    else:
        console.print_accounting(cohort.accounting)
    for case, error in cohort.faults:
        console.say_error(error.about(case.name))
    return len(cohort.faults)


def print_json(value: dict[str, Any], when: bool = True) -> None:
    """Print one JSON line, at once."""
    if when:
        sys.stdout.write(json_text(value) + "\n")
        sys.stdout.flush()
