"""The project's image, by its own Dockerfile, on a base of Debian's packages: python images.py

What is there is used again: the base as long as it is there, the rest layer by layer.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from containers import CACHE, environment

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/python:3.11"
IMAGE = "localhost/unet-pipeline:0.1.0-cpu"
OF_INDEX = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "no-index")


def build() -> str:
    """Build both images, and return the name of the project's."""
    if subprocess.run(["podman", "image", "exists", BASE], env=environment()).returncode:
        base = Path(__file__).with_name("base_image")
        subprocess.run([base, BASE], env=environment(), check=True)
    command = [
        "buildah", "build", "--format", "docker", "--isolation", "chroot", "--network", "host",
        "--layers", "--ignorefile", "deploy/Dockerfile.dockerignore", "--file", "deploy/Dockerfile",
        "--build-arg", "VARIANT=cpu", "--build-arg", f"PYTHON_IMAGE={BASE}",
        *(f"--volume={place}:{seen}:ro" for place, seen in _mounts()),
        "--tag", IMAGE, ".",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    return IMAGE


def _mounts() -> Iterator[tuple[Path, str]]:
    """What a build sees of this machine, and the image does not keep: where pip finds packages."""
    settings = _pip_settings()
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    file = CACHE / "pip.conf"
    file.write_text(f"[global]\n{lines}")
    yield file, "/etc/pip.conf"
    for word in " ".join(settings.values()).split():
        path = Path(urlsplit(word).path if word.startswith("file:") else word)
        if path.is_absolute() and path.exists():
            top = Path(*path.parts[:3])  # an index links to files beside it
            yield (path, str(path)) if path.is_file() else (top, str(top))


def _pip_settings() -> dict[str, str]:
    """The index settings of whoever builds: pip's files, and variables before them."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pairs = [line.split("=", 1) for line in said.splitlines()]
    ranked = sorted(pairs, key=lambda pair: pair[0].startswith(":env:"))
    named = {name.rpartition(".")[2]: value.strip("'\"") for name, value in ranked}
    return {name: value for name, value in named.items() if name in OF_INDEX}
