"""The project's image, by its own Dockerfile, on a base of Debian's packages.

What is there is used again: the base as long as it is there, the rest layer by layer.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from containers import CACHE, environment, podman

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/python:3.11"
IMAGE = "localhost/unet-pipeline:0.1.0-cpu"
STATE = "localhost/state:1"
OF_INDEX = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "no-index")


def build() -> None:
    """Build the project's image and its base, unless it is of these sources.

    With all layers at hand buildah still reads all of the environment, for minutes.
    """
    source = _digest()
    asked = ["image", "inspect", "--format", '{{index .Labels "source"}}', IMAGE]
    if podman(*asked, check=False) == source:
        return
    podman("rmi", IMAGE, check=False)  # with the copy of the environment that is its own
    make_base()
    ignored = ["--ignorefile", "deploy/Dockerfile.dockerignore"]
    _buildah("deploy/Dockerfile", IMAGE, *ignored, "--label", f"source={source}")


def _digest() -> str:
    """Return a digest of all that the image is made from."""
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    tops = [ROOT / line[1:] for line in lines if line.startswith("!")]
    files = [ROOT / "deploy" / "Dockerfile", *(f for top in tops for f in (top, *top.rglob("*")))]
    made = hashlib.sha256()
    for file in sorted({f for f in files if f.is_file() and f.suffix != ".pyc"}):
        made.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return made.hexdigest()


def build_state() -> None:
    """Build what stands for the images of PostgreSQL and Redis."""
    make_base()
    _buildah("tests/hosts/state/Dockerfile", STATE, context="tests/hosts/state")


def make_base() -> None:
    """Make the image that the others begin with, unless it is there."""
    if subprocess.run(["podman", "image", "exists", BASE], env=environment()).returncode:
        base = Path(__file__).with_name("base_image")
        subprocess.run([base, BASE], env=environment(), check=True)


def _buildah(file: str, image: str, *options: str, context: str = ".") -> None:
    command = [
        "buildah", "build", "--format", "docker", "--isolation", "chroot", "--network", "host",
        "--layers", "--file", file, "--tag", image, *options,
        "--build-arg", "VARIANT=cpu", "--build-arg", f"PYTHON_IMAGE={BASE}",
        *(f"--volume={place}:{seen}:ro" for place, seen in _mounts()),
        context,
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)


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
