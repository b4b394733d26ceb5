"""Hosts for the tests of this folder; without podman these are skipped."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from containers import why_not
from hosts import HOSTS, VALUES, Machines, on_hosts, wait_until
from images import build

from unet_pipeline.cluster.certificates import make_certificates


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs containers, with the reason, where there are none."""
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    ours = [item for item in here if item.get_closest_marker("soak")]
    if ours and (reason := why_not()):
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def image() -> None:
    build()


@pytest.fixture(scope="module")
def machines(image, tmp_path_factory) -> Iterator[Machines]:
    """A scheduler, S3 and three hosts."""
    yield from running("unet-hosts", tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def locked_machines(image, tmp_path_factory) -> Iterator[Machines]:
    """The same, with TLS between all processes of Dask."""
    folder = tmp_path_factory.mktemp("locked")
    make_certificates(folder / "tls", days=1)
    for path in (folder / "tls", *(folder / "tls").iterdir()):
        os.chown(path, 10001, 10001)  # the image's user
    yield from running("unet-locked-hosts", folder, folder / "tls")


def running(project: str, folder: Path, certificates: Path | None = None) -> Iterator[Machines]:
    services = on_hosts(certificates)
    (folder / "compose.yaml").write_text(yaml.safe_dump(services, sort_keys=False))
    (folder / "env").write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()))
    machines = Machines(project, folder / "compose.yaml", folder / "env", certificates)
    machines.down()  # of tests that were killed
    try:
        machines.up("s3", "dask-scheduler", *HOSTS)
        wait_until(lambda: machines.is_healthy("dask-scheduler"), 120)
        machines.wait_for_hosts()
        for bucket in ("scans", "results"):
            path = machines.volume("s3") / bucket
            path.mkdir()
            os.chown(path, 10001, 10001)
        time.sleep(1.1)  # --dir-cache-time
        yield machines
    finally:
        machines.down()
