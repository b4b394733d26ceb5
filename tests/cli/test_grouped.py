"""Groups of options: what a user may give, and what the command is given."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner
from unet_pipeline.cli.grouped import Options, grouped


@dataclass(frozen=True)
class Size(Options):
    width: Annotated[int, typer.Option()]
    height: Annotated[int, typer.Option("--tall")] = 2


@dataclass(frozen=True)
class Weight(Options):
    grams: Annotated[list[float] | None, typer.Option()] = None


def run(command, *arguments):
    app = typer.Typer()
    app.command()(grouped(command))
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("arguments", "size", "weight"),
    [
        (("--width", "5"), Size(5, 2), Weight(None)),
        (("--width", "5", "--tall", "7", "--grams", "1"), Size(5, 7), Weight([1.0])),
    ],
)
def test_a_command_is_given_its_groups(arguments, size, weight):
    seen = []

    def command(name: str, *, size: Size, loud: bool = False, weight: Weight) -> None:
        seen.append((name, size, loud, weight))

    assert run(command, "box", "--loud", *arguments).exit_code == 0
    assert seen == [("box", size, True, weight)]


def test_a_field_without_default_must_be_given():
    def command(*, size: Size) -> None:
        raise AssertionError

    result = run(command, "--tall", "3")
    assert result.exit_code == 2
    assert "--width" in result.output


def test_the_values_have_the_names_of_the_settings():
    assert Size(5).settings() == {"width": 5, "height": 2}


def test_two_options_of_one_name_are_refused():
    def command(height: int, *, size: Size) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="height"):
        grouped(command)
