"""The import contract refuses what it should: a violation of each rule, planted in a copy."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
HOMES = next(one for one in CONTRACTS if one["name"] == "each library has one home")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Return what the contract says of a tree with all violations at once, line breaks apart."""
    root = tmp_path_factory.mktemp("contract")
    for name in ("unet_pipeline", "flows"):
        ignore = shutil.ignore_patterns("__pycache__", "bundles")
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", root)
    package = root / "unet_pipeline"
    plant(package / "texts.py", *(f"import {name}" for name in HOMES["forbidden_modules"]))
    plant(package / "texts.py", "import unet_pipeline.cli", "import unet_pipeline_flows.server")
    plant(package / "tiling" / "box.py", "import torch")
    plant(package / "jobs" / "check.py", "import monai")
    plant(root / "flows" / "unet_pipeline_flows" / "server.py", "import unet_pipeline.cli.train")
    (package / "newcomer.py").write_text('"""A module that nobody gave a layer."""\n')
    (package / "jobs" / "newcomer.py").write_text('"""A job that nobody gave a layer."""\n')
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=root, check=False,
        env={"PYTHONPATH": f"{root}:{root / 'flows'}", "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return done.stdout


def plant(file: Path, *lines: str) -> None:
    file.write_text(file.read_text() + "\n".join(["", *lines, ""]))


@pytest.mark.parametrize("library", HOMES["forbidden_modules"])
def test_a_library_outside_its_home_is_seen(said, library):
    assert f"unet_pipeline.texts -> {library} " in said


@pytest.mark.parametrize(
    "line",
    [
        "unet_pipeline.texts is not allowed to import unet_pipeline.cli",
        "unet_pipeline.tiling.box -> torch ",
        "unet_pipeline.jobs.check -> monai ",
        "unet_pipeline.texts -> unet_pipeline_flows.server ",
        "unet_pipeline_flows.server -> unet_pipeline.cli.train ",
        "unet_pipeline.newcomer",
        "unet_pipeline.jobs.newcomer",
    ],
)
def test_other_ways_out_are_seen(said, line):
    assert line in said


def test_every_rule_was_broken(said):
    assert f"0 kept, {len(CONTRACTS)} broken" in said


def test_every_dependency_has_a_home():
    """A library that pyproject.toml brings is in the contract, or is one that many modules need."""
    everywhere = {"torch", "monai", "numpy", "scipy", "einops", "fastapi", "sqlalchemy"}
    names = {
        "pillow": "PIL",
        "pyyaml": "yaml",
        "google-crc32c": "google_crc32c",
        "prometheus-client": "prometheus_client",
        "connected-components-3d": "cc3d",
    }
    bare = {one.split(">")[0].split("[")[0] for one in PROJECT["project"]["dependencies"]}
    homes = {names.get(one, one) for one in bare} - everywhere
    assert homes <= set(HOMES["forbidden_modules"])
