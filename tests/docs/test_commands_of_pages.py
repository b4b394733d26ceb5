"""Each command and option of a page is one that the program has."""

import re
from collections.abc import Iterator

import click
import pytest
import typer
from doc_pages import ROOT, commands, files, named, pages, spans

from unet_pipeline.cli import app

BENCHMARK = re.compile(r"benchmarks/.*\.py")
OF_OTHERS = {"--target", "--from-file", "--format", "--ignorefile"}  # docker, kubectl, buildah
PROGRAM = typer.main.get_command(app)


def under(command: click.Command) -> dict[str, click.Command]:
    """The commands below a command."""
    return dict(getattr(command, "commands", {}))


def options(command: click.Command) -> set[str]:
    """The options of one command."""
    return {
        name
        for one in command.params
        for name in (*one.opts, *one.secondary_opts)
        if name[0] == "-"
    } | {"--help"}


def all_options(command: click.Command = PROGRAM) -> set[str]:
    """The options of a command and of those below it."""
    return options(command).union(*(all_options(one) for one in under(command).values()))


def strange(words: list[str]) -> Iterator[str]:
    """What the program does not know of a command line."""
    command, known = PROGRAM, options(PROGRAM)
    for word in words:
        if word in {">", "<", "2>", "..."}:
            continue
        if word.startswith("-") and word.strip("-.0123456789"):
            if word.split("=")[0] not in known:
                yield word
        elif under(command):
            if word not in under(command):
                yield word
                return
            command = under(command)[word]
            known = options(command)


@pytest.mark.parametrize("page", pages(), ids=named)
def test_commands_are_the_programs(page):
    found = {word for words in commands(page.read_text()) for word in strange(words)}
    assert found == set()


@pytest.mark.parametrize("page", pages(), ids=named)
def test_options_are_some_commands(page):
    told = {span.split()[0].split("=")[0] for span in spans(page.read_text()) if span[:2] == "--"}
    benchmarks = "".join((ROOT / name).read_text() for name in files() if BENCHMARK.match(name))
    rest = told - all_options() - OF_OTHERS
    assert {option for option in rest if f'"{option}"' not in benchmarks} == set()


def test_every_command_is_told():
    told = {words[0] for page in pages() for words in commands(page.read_text()) if words}
    assert under(PROGRAM).keys() <= told


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("segment s3://a --model m --output o", []),
        ("segment s3://a --modle m --output=o", ["--modle"]),
        ("segments s3://a --modle m", ["segments"]),
        ("bundle prunes b --depth 2", ["prunes"]),
        ("bundle prune b --depht 2", ["--depht"]),
    ],
)
def test_what_is_strange_is_seen(line, wanted):
    assert list(strange(line.split())) == wanted
