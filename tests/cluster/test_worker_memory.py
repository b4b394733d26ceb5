"""A worker whose kept memory nears its limit gives it back, and goes on to work."""

import platform
import time

import psutil
import pytest
from distributed import Client, LocalCluster

from unet_pipeline.cluster.plugins import MOST_SHARE, KeptMemory
from unet_pipeline.processes import ENVIRONMENT

LIMIT = 1_000_000_000
USE = "len(bytearray(b'1' * 400_000_000))"  # for a moment twice as much


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_a_worker_gives_back_what_it_kept(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": LIMIT}
    with LocalCluster(dashboard_address=":0", **options) as cluster, Client(cluster) as client:
        assert client.submit(eval, USE).result(60) == 400_000_000
        assert resident_bytes(client) > MOST_SHARE * LIMIT, "nothing was kept"
        client.register_plugin(KeptMemory())
        deadline = time.monotonic() + 20
        while resident_bytes(client) > MOST_SHARE * LIMIT:
            assert time.monotonic() < deadline, "what was kept is kept"
            time.sleep(0.1)


def resident_bytes(client: Client) -> int:
    (found,) = client.run(lambda: psutil.Process().memory_info().rss).values()
    return found
