"""Podman for the tests: settings and images of its own, in one folder that is kept."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

CACHE = Path(
    os.environ.get("UNET_PIPELINE_TEST_CACHE", Path.home() / ".cache" / "unet-pipeline-tests")
)
COMPILED = CACHE / "compiled"  # loops, for all containers
NEEDED = ("podman", "buildah", "runc", "debootstrap")
COMPOSE = shutil.which("podman-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
# crun refuses hybrid cgroups; the usual limits of processes are refused inside a container
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]
[network]
network_backend = "netavark"
"""
STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/images"
runroot = "{folder}/run"
"""


@cache
def environment() -> dict[str, str]:
    """Variables that let podman use settings of the tests, and nothing that others have."""
    COMPILED.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(COMPILED, 10001, 10001)  # the image's user
    files = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    (CACHE / "containers.conf").write_text(CONTAINERS)
    driver = os.environ.get("UNET_PIPELINE_TEST_STORAGE", "overlay")
    (CACHE / "storage.conf").write_text(STORAGE.format(driver=driver, folder=CACHE))
    return dict(os.environ) | {name: str(CACHE / file) for name, file in files.items()}


def podman(*words: object, check: bool = True) -> str:
    """Run podman, and return what it says; its monitors leave a file `oom` where it was begun."""
    done = subprocess.run(
        ["podman", *map(str, words)],
        env=environment(), cwd=CACHE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"podman {words}: {done.stderr[-2000:]}"
    return done.stdout.strip()


@cache
def why_not() -> str | None:
    """Say what these tests lack, if they cannot run here."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"no {', '.join(missing)} (CONTRIBUTING.md)"
    if COMPOSE is None:
        return "no podman-compose (pip install podman-compose)"
    if os.geteuid() != 0:
        return "hosts with memory limits need root"
    asked = subprocess.run(["podman", "info"], env=environment(), capture_output=True, text=True)
    return f"podman: {asked.stderr.strip()[-300:]}" if asked.returncode else None
