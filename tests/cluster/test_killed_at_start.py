"""A worker of this machine that is killed while it starts is replaced, which no nanny does."""

import os
import signal
import sys
import time

import psutil
import pytest

from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import starting


def copies() -> list[int]:
    """Workers that are copies of the process that has imported (``forking.py``)."""
    sources = [
        one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())
    ]
    return [worker.pid for source in sources for worker in source.children()]


@pytest.mark.skipif(sys.platform != "linux", reason="workers are copies on Linux")
def test_a_worker_that_is_killed_while_it_starts_is_replaced():
    before = set(copies())
    with starting(ClusterSpec("local", workers=1, calls_at_once=1)) as opened:
        deadline = time.monotonic() + 60
        while not (found := set(copies()) - before):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        killed = found.pop()
        os.kill(killed, signal.SIGKILL)
        executor = opened()
        assert executor.result(executor.submit(os.getpid)) != killed
