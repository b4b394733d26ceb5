"""Memory that a forward pass freed is there for the next: the system need not clear it again."""

import platform
import subprocess
import sys

import pytest

from unet_pipeline.cluster.backends import open_executor
from unet_pipeline.cluster.spec import ClusterSpec
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
def test_a_local_worker_keeps_what_was_freed(monkeypatch):
    for name in ENVIRONMENT:  # Dask leaves that of other clusters behind
        monkeypatch.delenv(name, raising=False)
    with open_executor(ClusterSpec("local", workers=1)) as executor:
        call = f"(exec({ROUND!r}, globals()), [faults(), faults()])[1]"
        first, second = executor.result(executor.submit(eval, call))
    assert second < first / 4
