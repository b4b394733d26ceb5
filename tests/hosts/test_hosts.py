"""Several hosts for real: containers with file systems, addresses and memory limits of their own.

`pytest tests/hosts -m soak -s` prints the lines of the table in docs/reliability.md.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest
from cohorts import write_tiny
from containers import podman
from hosts import Machines, asked, wait_until
from images import build_state
from memory import Memory
from watching import Seen, done, label_maps, watch

from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
CASES = 60
AT = 8  # cases that are done when something goes wrong
HOST = "host-2"
MOST_SECONDS = 400.0  # from a fault to the last case


def serial(folder: Path) -> dict[str, bytes]:
    """Label maps of the images in a folder, by one process of the tests."""
    settings = SegmentSettings(
        images=str(folder / "images"), model="phantom", output=str(folder / "out"),
        cluster=ClusterSettings(kind="serial", threads=1),
    )  # fmt: skip
    run = open_segment(settings)
    with open_executor(settings.cluster.spec()) as executor:
        assert {record.status for record in run_segment(run, executor)} == {"done"}
    return label_maps(folder / "out")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_tiny(Store(), str(folder), CASES)
    return folder


@pytest.fixture(scope="module")
def expected(cohort) -> dict[str, bytes]:
    return serial(cohort)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    write_large(folder)
    return folder


@pytest.fixture(scope="module")
def expected_large(large) -> dict[str, bytes]:
    return serial(large)


def write_large(folder: Path) -> None:
    phantom = make_phantom(3, (120, 110, 96), (1.5, 1.5, 2.0))
    values = phantom.image_XYZ
    data = encode_volume(values, header_of(values.shape, phantom.affine, values.dtype))
    Store().write(str(folder / "images" / "large.nii"), data)


def upload(machines: Machines, folder: Path) -> str:
    """Put a folder's images where the hosts see them, and return where that is."""
    store, place = machines.store(), f"s3://scans/{folder.name}"
    for path in sorted((folder / "images").iterdir()):
        store.write(f"{place}/{path.name}", path.read_bytes())
    return place


OF_LARGE = ("--memory-gb", "0.001", "--tile", "48,48,48")  # into scratch, and onto all hosts


def segmented(machines: Machines, images: str, output: str, *options: str) -> dict[str, bytes]:
    """Label maps that hosts make of images."""
    place = ("--model", "phantom", "--output", f"s3://results/{output}")
    with machines.segmenting(images, *place, *options) as run:
        run.end()
    return label_maps(machines.volume("s3") / "results" / output)


def test_a_cohort_on_three_hosts_has_the_bytes_of_a_serial_run(machines, cohort, expected):
    begin = time.monotonic()
    assert segmented(machines, upload(machines, cohort), "calm") == expected
    sys.stdout.write(Seen(0, None, 0).row("none", CASES, 0, 0, time.monotonic() - begin))


def test_a_large_case_is_shared_by_hosts_that_see_no_folder_of_each_other(
    machines, large, expected_large
):
    given = segmented(machines, upload(machines, large), "large", *OF_LARGE)
    assert given == expected_large


def fault_in_the_middle(
    machines: Machines,
    cohort: Path,
    expected: dict[str, bytes],
    name: str,
    fault: Callable[[], None],
    mend: Callable[[], None] = lambda: None,
    after_s: float = 0.0,
    host: str | None = HOST,
) -> None:
    """Let a fault happen in the middle of a run, and hold what the run comes to."""
    output = name.replace(" ", "-")
    folder = machines.volume("s3") / "results" / output
    images = upload(machines, cohort)
    try:
        place = ("--model", "phantom", "--output", f"s3://results/{output}")
        with machines.segmenting(images, *place) as run:
            begin = time.monotonic()
            wait_until(lambda: len(done(folder)) >= AT, 300)
            fault()
            mending = Later(mend, after_s)
            seen = watch(machines, folder, CASES, host, MOST_SECONDS)
            run.end()
            mending.end()
        found = label_maps(folder)
        lost = [case for case in expected if case not in found]
        other = [case for case in found if found[case] != expected[case]]
        sys.stdout.write(
            "\n" + seen.row(name, CASES, len(lost), len(other), time.monotonic() - begin)
        )
        assert (lost, other) == ([], [])
    finally:
        machines.wait_for_hosts()


class Later:
    """Something that is done some seconds from now, while others look on."""

    def __init__(self, call: Callable[[], None], seconds: float) -> None:
        self.timer = Timer(seconds, call)
        self.timer.start()

    def end(self) -> None:
        self.timer.join()


@pytest.mark.parametrize("seconds", [10, 60])
def test_a_host_is_cut_off_and_comes_back(machines, cohort, expected, seconds):
    address = machines.address(HOST)
    fault_in_the_middle(
        machines, cohort, expected, f"cut off for {seconds} s",
        lambda: machines.cut_off(HOST) and None,
        lambda: machines.bring_back(HOST, address), seconds,
    )  # fmt: skip


def test_a_host_is_killed(machines, cohort, expected):
    name = machines.name(HOST)
    fault_in_the_middle(
        machines, cohort, expected, "host killed",
        lambda: podman("kill", name) and None,
        lambda: podman("start", name) and None, 20,
    )  # fmt: skip


def test_the_scheduler_is_killed_and_started_again(machines, cohort, expected):
    name = machines.name("dask-scheduler")
    fault_in_the_middle(
        machines, cohort, expected, "scheduler killed",
        lambda: podman("kill", name) and None,
        lambda: podman("start", name) and None, 3, host=None,
    )  # fmt: skip


def test_a_host_at_its_memory_limit_loses_its_worker_to_the_system(machines, cohort, expected):
    memory = Memory(machines.name("host-3"))

    def fault() -> None:
        memory.tighten()
        try:
            wait_until(lambda: memory.kills() > 0, 120)
        finally:
            memory.relax()

    fault_in_the_middle(machines, cohort, expected, "memory limit", fault, host="host-3")
    assert memory.kills() > 0


def test_hosts_speak_tls_and_nothing_else(locked_machines, cohort, expected, large, expected_large):
    """A small cohort, and a large case, whose parts go from host to host by TLS, too."""
    machines = locked_machines
    assert segmented(machines, upload(machines, cohort), "calm") == expected
    given = segmented(machines, upload(machines, large), "large", *OF_LARGE)
    assert given == expected_large
    address = machines.scheduler.replace("dask-scheduler", machines.address("dask-scheduler"))
    with pytest.raises((OSError, TypeError)):
        asyncio.run(asked(address.replace("tls://", "tcp://"), None))


PAGE = """
from urllib.request import Request, urlopen
urlopen(Request("http://127.0.0.1:4200/", None, {"Host": "localhost:4200"}))
"""
STATE_FIRST = (("postgres", "redis"), ("prefect-server",))


def test_a_deployment_runs_on_the_hosts(machines, cohort, expected):
    """All services of compose.yaml: Prefect on PostgreSQL and Redis, a worker, and the hosts."""
    build_state()
    for services in STATE_FIRST:  # this podman does not wait for health checks by itself
        machines.up(*services)
        wait_until(lambda these=services: all(map(machines.is_healthy, these)), 240)
    machines.up("prefect-services", "register")
    wait_until(lambda: machines.status("register") == "exited 0", 240)
    machines.up("prefect-worker")
    settings = {
        "images": upload(machines, cohort), "model": "phantom", "output": "s3://results/deployed",
        "cluster": {"kind": machines.scheduler, "threads": 1},
    }  # fmt: skip
    run = ["prefect", "deployment", "run", "segment/on-demand", "--watch", "--params"]
    worker = machines.name("prefect-worker")
    podman("exec", worker, *run, json.dumps({"settings": settings}))
    podman("exec", machines.name("prefect-server"), "python", "-c", PAGE)
    assert label_maps(machines.volume("s3") / "results" / "deployed") == expected
