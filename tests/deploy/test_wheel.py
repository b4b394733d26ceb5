"""The wheel, as a user installs it: its top-level names are ours alone, and its flows are found."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
IMPORT_AS_PREFECT = """
import sys
from prefect.flows import load_flow_from_entrypoint
for entrypoint in sys.argv[1:]:
    module = sys.modules[load_flow_from_entrypoint(entrypoint).fn.__module__]
    print(module.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_has_no_other_names_at_the_top(installed):
    kept = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert kept == {"unet_pipeline", "unet_pipeline_flows"}


def test_the_wheel_brings_the_files_of_the_deployments(installed):
    for name in ("prefect.yaml", "work-pool.json"):
        copy = installed / "unet_pipeline_flows" / name
        assert copy.read_bytes() == (ROOT / "deploy" / name).read_bytes()


def test_flows_are_ours_in_a_folder_that_has_flows_of_its_own(installed, tmp_path):
    """Prefect's worker puts its folder first on the path, and imports what an entrypoint names."""
    theirs = tmp_path / "flows"
    theirs.mkdir()
    stated = yaml.safe_load((installed / "unet_pipeline_flows/prefect.yaml").read_text())
    entrypoints = sorted({one["entrypoint"] for one in stated["deployments"]})
    modules = [entrypoint.split(".")[-2] for entrypoint in entrypoints]
    for name in ("__init__", "segment_cohort", *modules):
        (theirs / f"{name}.py").write_text("raise SystemExit('a flow of the user')\n")
    path = os.pathsep.join([str(tmp_path), str(installed)])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AS_PREFECT, *entrypoints], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [Path(line).relative_to(installed) for line in done.stdout.splitlines()]
    assert found == [Path("unet_pipeline_flows", f"{name}.py") for name in modules]
