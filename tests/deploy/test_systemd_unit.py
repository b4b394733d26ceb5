"""The unit of systemd, as far as it can be held against what it starts."""

import shlex
from configparser import ConfigParser

from deploy_files import DEPLOY
from typer.main import get_command

from unet_pipeline.cli import app
from unet_pipeline.local.flow_processes import END_SECONDS


def unit() -> ConfigParser:
    read = ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string((DEPLOY / "systemd" / "unet-pipeline.service").read_text())
    return read


def test_it_starts_a_command_that_there_is_and_gives_it_time_to_end():
    service = unit()["Service"]
    program, name, *options = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/unet-pipeline")
    command = get_command(app).commands[name]
    parsed = command.make_context(name, options).params
    assert str(parsed["home"]).startswith(service["WorkingDirectory"])
    assert parsed["port"] == 4200
    assert service["KillMode"] == "mixed"  # `up` ends the others in their order
    assert int(service["TimeoutStopSec"]) > 2 * (END_SECONDS + 10)  # of worker and server
