"""What the commands share: settings from options, errors in one line, JSON lines."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from unet_pipeline.errors import PipelineError, RequestError

_S = TypeVar("_S", bound=BaseModel)
_NAMED: dict[tuple[str, ...], str] = {  # options that are not named as the last part of the setting
    ("cluster", "kind"): "cluster",
    ("gate", "affine_voxels"): "tolerance (in voxels)",
    ("loss", "name"): "loss",
    ("optimiser", "name"): "optimiser",
    ("validation", "every"): "validate-every",
}


@contextmanager
def request_errors(case_too: bool = False) -> Iterator[None]:
    """Turn a wrong request into one line and exit status 2.

    Parameters
    ----------
    case_too
        Also a fault of one object: where no case can be quarantined, it ends the command.
    """
    from unet_pipeline.console import say_error

    try:
        yield
    except PipelineError as error:
        if not isinstance(error, RequestError) and not case_too:
            raise
        say_error(error)
        raise typer.Exit(2) from error


def settings_of(kind: type[_S], **values: Any) -> _S:
    """Fill a settings object; what is wrong with a value becomes one sentence."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(
            "setting_invalid",
            subject=_option(first["loc"]),
            found=repr(first["input"]),
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


def print_json(value: dict[str, Any], when: bool = True) -> None:
    """Print one JSON line, at once."""
    if when:
        sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
        sys.stdout.flush()
