"""Memory that a forward pass freed is there for the next: the system need not clear it again."""

import platform
import subprocess
import sys

import pytest
from distributed.system import MEMORY_LIMIT

from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.processes import ENVIRONMENT

MEGABYTES = 200
ROUND = f"""
import resource
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray({MEGABYTES}_000_000)
    block[::4096] = b"1" * len(block[::4096])
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
PAGES = MEGABYTES * 1_000_000 // 4096
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")


def faults_of_rounds(prepare: str) -> list[int]:
    """Use and free a block twice, in a thread of a process of its own; return the page faults."""
    program = (
        f"{prepare}\n{ROUND}\nfrom threading import Thread\nfound = []\n"
        "t = Thread(target=lambda: found.extend([faults(), faults()])); t.start(); t.join()\n"
        "print(*found)"
    )
    command = [sys.executable, "-c", program]
    text = subprocess.run(command, check=True, capture_output=True, text=True, env={}).stdout
    return list(map(int, text.split()))


@needs_glibc
def test_a_process_keeps_what_was_freed():
    plain = faults_of_rounds("")
    kept = faults_of_rounds(
        "from unet_pipeline.processes import prepare_process; prepare_process()"
    )
    assert plain[1] > PAGES / 2 or plain[1] > 90  # huge pages where the system gives them
    assert kept[1] < plain[1] / 4


@needs_glibc
def test_no_large_pages_are_asked_for():
    """Where a mapping was, the system's list of them has the flag hg."""
    program = (
        "import numpy; kept = numpy.ones(50_000_000)\n"
        "lines = open('/proc/self/smaps').read().splitlines()\n"
        "print(sum(' hg' in line for line in lines if line.startswith('VmFlags')))"
    )
    found = {
        prepare: int(subprocess.check_output([sys.executable, "-c", prepare + program], env={}))
        for prepare in ("", "from unet_pipeline.processes import *; prepare_process()\n")
    }
    asked, not_asked = found.values()
    assert asked > 0
    assert not_asked == 0


@pytest.fixture(scope="module")
def executor():
    with pytest.MonkeyPatch.context() as patch:
        for name in ENVIRONMENT:  # Dask leaves that of other clusters behind
            patch.delenv(name, raising=False)
        with open_executor(ClusterSpec("local", workers=2)) as opened:
            yield opened


@needs_glibc
def test_a_local_worker_keeps_what_was_freed(executor):
    call = f"(exec({ROUND!r}, globals()), [faults(), faults()])[1]"
    first, second = executor.result(executor.submit(eval, call))
    assert second < first / 4


def test_local_workers_share_the_memory_of_the_machine(executor):
    workers = executor.client.scheduler_info(n_workers=-1)["workers"].values()
    assert [worker["memory_limit"] for worker in workers] == [MEMORY_LIMIT // 2] * 2
