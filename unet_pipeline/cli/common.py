"""What the commands share: settings from options, errors in one line, JSON lines."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from unet_pipeline.errors import PipelineError, RequestError, RunStopped, without_secrets
from unet_pipeline.records import json_text
from unet_pipeline.stopping import Stopped, by_signal, received

if TYPE_CHECKING:
    from unet_pipeline.config import CheckSettings, SegmentSettings

_S = TypeVar("_S", bound=BaseModel)
_NAMED: dict[tuple[str, ...], str] = {  # options that are not named as the last part of the setting
    ("cluster", "kind"): "cluster",
    ("gate", "affine_voxels"): "tolerance (in voxels)",
    ("loss", "name"): "loss",
    ("optimiser", "name"): "optimiser",
    ("validation", "every"): "validate-every",
}


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


def settings_of(kind: type[_S], **values: Any) -> _S:
    """Fill a settings object; what is wrong with a value becomes one sentence."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(
            "setting_invalid",
            subject=_option(first["loc"]),
            found=without_secrets(repr(first["input"]), one_url=True),
            wanted=first["msg"][0].lower() + first["msg"][1:],
            remedy="See --help",
        ) from error


def _option(place: Sequence[int | str]) -> str:
    """Return the option that fills a place in the settings, such as ``("cluster", "kind")``."""
    names = tuple(part for part in place if isinstance(part, str))  # a number: place in a list
    return "--" + _NAMED.get(names, "".join(names[-1:])).replace("_", "-")


def three(text: str | None) -> tuple[int, ...] | None:
    """Return three whole numbers of ``X,Y,Z``."""
    values = numbers(text, int, "--tile or --roi-size")
    if values is not None and len(values) != 3:
        _wrong_numbers(text, "three whole numbers, X,Y,Z")
    return values


def numbers(text: str | None, kind: Callable[[str], Any], option: str) -> tuple[Any, ...] | None:
    """Return the numbers of ``N,N,...``; ``option`` is named if they are none."""
    try:
        return None if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError:
        _wrong_numbers(text, f"numbers with commas between them for {option}")


def names_of(text: str | None) -> tuple[str, ...]:
    """Return the names of ``A,B,...``."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _wrong_numbers(text: str | None, wanted: str) -> NoReturn:
    raise RequestError("setting_invalid", found=repr(text), wanted=wanted, remedy="See --help")


def show_files(settings: "SegmentSettings | CheckSettings", as_json: bool) -> int:
    """Show what each file was taken for; return how many cases are at fault by their files."""
    from unet_pipeline import console
    from unet_pipeline.request import list_cohort

    with console.waiting("Listing the cohort"):
        cohort = list_cohort(settings)
    for taken in cohort.taken():
        print_json(taken.as_dict(), when=as_json)
        if not as_json:
            console.print_taken(taken)
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
