"""Options, keys of a file, variables and the form are one list: the fields of the settings."""

import ast
import json
import re
from collections import Counter

import pytest
import typer
from command_line import ROOT, cli
from typer.testing import CliRunner

from unet_pipeline.cli import app
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.settings_page import page
from unet_pipeline.config import COMMANDS, SegmentSettings, Settings
from unet_pipeline.config.options import settings_in
from unet_pipeline.config.sources import prefix_of, variable_of

OWN = {  # options that are no settings, and why
    "--settings": "says where settings are",
    "--json": "how a result is shown",
    "--help": "says what there is",
    "--list": "shows files or layers in the place of the job",
    "--all": "of that list",
    "--measure": "whether a plan times this machine",
    "--no-measure": "the same",
    "--metrics-port": "of this machine, which no form may open",
    "--metrics-file": "a file of this machine, which no form may name",
}
PROGRAM = typer.main.get_command(app)


def options_of(command: str) -> set[str]:
    """The options of a command, and its arguments by their names."""
    found = PROGRAM
    for word in command.split():
        found = found.commands[word]
    return {name for one in found.params for name in (*one.opts, *one.secondary_opts)}


def fields_of(model: type[Settings]) -> set[str]:
    """What the options of a settings model must be."""
    found = set()
    for one in settings_in(model):
        found |= {one.option} if one.argument else {f"--{one.option}"}
        found |= {f"--no-{one.option}"} if one.is_flag else set()
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_an_option_for_each_field_and_no_other(command):
    assert options_of(command) - OWN.keys() == fields_of(COMMANDS[command])
    assert "--settings" in options_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_opens_a_store_reaches_any(command):
    assert {"--endpoint-url", "--profile", "--region"} <= options_of(command)


def test_commands_of_one_kind_have_the_same_settings():
    """The table, command by setting, is docs/settings.md."""
    ask = {command: fields_of(model) for command, model in COMMANDS.items()}
    assert ask["plan"] == ask["segment"]
    assert ask["depths"] ^ ask["compare"] == {
        "--model", "models", "--tolerance", "--adaptive", "--no-adaptive", "--adaptive-loss",
        "--all-pairs", "--no-all-pairs", "--split",
    }  # fmt: skip
    assert ask["segment"] - ask["depths"] == {
        "--require-masks", "--no-require-masks",  # masks are what a depth is chosen by
        # a comparison names its models itself
        "--also", "--ensemble", "--within", "--combine", "--no-combine",
        "--labels",  # all are scored
        "--depth", "--resume", "--no-resume",  # all depths; what is done is never done again
        "--verify", "--no-verify",
        "--content", "--no-content", "--hourly-rate", "--currency",
        "--stop-after", "--stop-at-price",  # half a comparison is none
        "--other-runs", "--shard",  # theirs share the work
        "--output-layout",  # theirs are to be scored, not published
        "--replace", "--no-replace", "--version-name", "--compare-with",  # nor kept
    }  # fmt: skip
    assert ask["segment"] - ask["check"] - ask["depths"] >= {"--hourly-rate"}


def test_the_page_of_settings_is_current():
    """`make settings` writes it."""
    text = (ROOT / "docs/settings.md").read_text()
    assert text == page(text)
    assert text.count("\n| ") > 100


def test_no_help_text_stands_twice():
    texts = Counter(
        node.value.value
        for folder in ("cli", "config")
        for file in (ROOT / "unet_pipeline" / folder).glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.keyword)
        and node.arg in ("help", "description")
        and isinstance(node.value, ast.Constant)
    )
    assert len(texts) > 100
    assert [text for text, count in texts.items() if count > 1] == []


def test_no_variable_of_a_setting_is_one_that_others_read():
    told = (ROOT / "docs/operations.md").read_text()
    ours = re.findall(r"`(UNET_PIPELINE_\w+)`", told)
    assert len(ours) > 10
    assert not [n for n in ours for command in COMMANDS if n.startswith(prefix_of(command.split()))]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_setting_has_a_variable_and_a_key_of_its_own(command):
    settings = settings_in(COMMANDS[command])
    assert len({variable_of(command.split(), one) for one in settings}) == len(settings)
    assert len({one.key for one in settings}) == len(settings)


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What a command with the settings of segment is given, for words, variables and a file."""
    taken = []

    @from_settings
    def segment(settings: SegmentSettings, loud: bool = False) -> None:
        taken.append(settings)

    program = typer.Typer()
    program.command()(segment)
    program.callback()(lambda: None)

    def run(*words, file=None, variables=()):
        for name, value in dict(variables).items():
            monkeypatch.setenv(f"UNET_PIPELINE_SEGMENT_{name}", value)
        if file is not None:
            (tmp_path / "run.yaml").write_text(file)
            words = (*words, "--settings", str(tmp_path / "run.yaml"))
        result = CliRunner().invoke(program, ["segment", *words])
        return taken.pop() if result.exit_code == 0 else (result.exit_code, result.stderr)

    return run


WORDS = ("s3://a", "--model", "phantom", "--output", "s3://b")
FILE = """
images: s3://file
model: phantom
output: s3://out
depth: 2
trust: true
windows: {batch: 4, tile: "16,16,16"}
cluster: {kind: serial, threads: 3}
budget: {memory_gb: 1e0}
storage: {region: eu-1, allow: [s3://x, "s3://y,z"]}
gate: {remedies: [reorient, onehot]}
"""


def test_all_of_a_request_may_stand_in_a_file(said):
    settings = said(file=FILE)
    assert settings == SegmentSettings(
        images="s3://file", model="phantom", output="s3://out", depth="2", trust=True,
        windows={"batch": 4, "tile": (16, 16, 16)}, cluster={"kind": "serial", "threads": 3},
        budget={"memory_gb": 1.0}, storage={"region": "eu-1", "allow": ("s3://x", "s3://y,z")},
        gate={"remedies": ("reorient", "onehot")},
    )  # fmt: skip


def test_a_file_is_what_the_form_of_a_run_holds(said):
    asked = said(*WORDS, "--tile", "8,8,8", "--allow", "s3://x", "--remedies", "reorient")
    assert said(file=asked.model_dump_json()) == asked


def test_the_command_line_counts_before_the_environment_and_that_before_the_file(said):
    both = {"BATCH": "8", "THREADS": "5", "ALLOW": "s3://v,s3://w", "TRUST": "false", "MIRROR": ""}
    settings = said("s3://line", "--batch", "16", file=FILE, variables=both)
    assert settings.images == "s3://line"
    assert (settings.windows.batch, settings.cluster.threads) == (16, 5)
    assert settings.cluster.kind == "serial"
    assert settings.storage.allow == ("s3://v", "s3://w")
    assert (settings.trust, settings.windows.mirror) == (False, None)
    assert settings.budget.memory_gb == 1.0


def test_a_default_that_is_typed_counts(said):
    assert said("--batch", "1", "--no-trust", file=FILE).windows.batch == 1
    assert not said("--no-trust", file=FILE).trust
    assert said("--resume", file=FILE + "resume: false\n").resume


def test_a_file_may_be_named_by_a_variable(said, tmp_path):
    (tmp_path / "my.yaml").write_text(FILE)
    assert said(variables={"SETTINGS": str(tmp_path / "my.yaml")}).images == "s3://file"


@pytest.mark.parametrize(
    ("words", "file", "variables", "message"),
    [
        ((), "memory_gb: 3", {}, r"found 'memory_gb'.*budget\.memory_gb"),
        ((), "budget: {memry_gb: 3}", {}, r"found 'budget\.memry_gb'.*budget\.memory_gb"),
        ((), "zzzz: 1", {}, r"found 'zzzz'.*--help"),
        ((), "budget: 3", {}, r"budget in .*run\.yaml: found 3"),
        ((), "windows: {batch: 0}", {}, r"windows\.batch in .*run\.yaml: found 0"),
        ((), "windows: {tile: [1, 2]}", {}, r"windows\.tile in .*3 numbers, X,Y,Z"),
        ((), "- 1", {}, r"settings_unreadable.*no mapping"),
        ((), "a: [", {}, r"settings_unreadable"),
        ((), "masks: [a]", {}, r"masks in .*found \['a'\]"),
        ((), "masks: s3://u:hunter2@b", {}, r"no password"),
        ((), None, {"BATCHES": "3"}, r"'UNET_PIPELINE_SEGMENT_BATCHES'.*SEGMENT_BATCH\b"),
        ((), None, {"BATCH": "many"}, r"UNET_PIPELINE_SEGMENT_BATCH: found 'many'"),
        (("--batch", "many"), None, {}, r"--batch: found 'many'"),
        (("--tile", "1,2"), None, {}, r"--tile: found '1,2'; wanted 3 numbers"),
        (("--settings", "/no/such"), None, {}, r"settings_unreadable"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(said, words, file, variables, message):
    status, text = said(*WORDS, *words, file=file, variables=variables)
    assert status == 2
    assert len(text.strip().splitlines()) == 1
    assert "hunter2" not in text
    assert re.search(message, text), text


def test_what_must_be_given_is_named(said):
    status, text = said("s3://a", "--model", "phantom")
    assert (status, "--output: found nothing" in text) == (2, True)


def test_two_options_of_one_name_are_refused():
    def command(settings: SegmentSettings, batch: int = 1) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="batch"):
        from_settings(command)


def test_check_reads_voxels_on_workers_only_if_told(tmp_path):
    """`--workers` alone means workers of this machine, and a remedy is not needed to fix."""
    check = COMMANDS["check"]
    assert check(images="a").cluster.kind == "serial"
    assert check(images="a", cluster={"workers": 2}).cluster.kind == "local"
    assert check(images="a", fix="b").gate.remedies == ("reorient",)
    assert check(images="a", fix="b", gate={"remedies": ("onehot",)}).gate.remedies == ("onehot",)
    assert check(images="a").gate.remedies == ()


def test_a_plan_takes_the_file_of_a_run(tmp_path):
    file = {"images": str(tmp_path / "no"), "model": "phantom", "output": "s3://b",
            "budget": {"retries": 3}, "cluster": {"kind": "slurm"}}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(file))
    done = cli("plan", "--settings", tmp_path / "run.json")
    assert done.returncode == 2
    assert "_missing]" in done.stderr
