"""The list of commands is there without them, and says what they say."""

import pytest
import typer

from unet_pipeline.cli import app
from unet_pipeline.cli.commands import SAID

PROGRAM = typer.main.get_command(app)


@pytest.mark.parametrize("name", SAID)
def test_a_command_says_of_itself_what_the_list_says(name):
    said = " ".join(PROGRAM.commands[name].help.partition("\n\n")[0].split())
    assert said == SAID[name][1]
    assert PROGRAM.commands[name].name == name
