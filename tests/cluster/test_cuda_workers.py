"""Workers on GPUs: what can be seen of them without one, and, where there are some, with them."""

import inspect
import os
from importlib import import_module
from urllib.request import urlopen

import dask
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from unet_pipeline.cluster import backends
from unet_pipeline.cluster.places.cuda import cluster_options, count_gpus, results_on_host
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.errors import RequestError
from unet_pipeline.processes import ENVIRONMENT

GPUS = torch.cuda.device_count()
needs_gpu = pytest.mark.skipif(GPUS == 0, reason="no GPU")


@pytest.fixture
def dask_cuda():
    return pytest.importorskip("dask_cuda", reason="no dask-cuda", exc_type=ImportError)


def refusal(spec: ClusterSpec) -> RequestError:
    with pytest.raises(RequestError) as raised, open_executor(spec):
        pass
    return raised.value


def test_without_dask_cuda_the_remedy_is_its_extra():
    try:
        import_module("dask_cuda")
    except ImportError:
        error = refusal(ClusterSpec("cuda"))
        assert error.code == "cuda_missing"
        assert "unet-pipeline[cuda]" in error.remedy
    else:
        pytest.skip("dask-cuda is there")


@pytest.mark.skipif(GPUS > 0, reason="a GPU is there")
@pytest.mark.parametrize("visible", [None, "", "0", "GPU-none"])
def test_without_a_gpu_that_is_said(dask_cuda, monkeypatch, visible):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    error = refusal(ClusterSpec("cuda"))
    assert error.code == "gpu_missing"
    assert "nvidia-smi" in error.remedy


def test_dask_cuda_knows_what_it_is_told(dask_cuda):
    known = {
        name
        for make in (dask_cuda.LocalCUDACluster, LocalCluster)
        for name in inspect.signature(make.__init__).parameters
    }
    assert cluster_options(2, 3).keys() - {"data"} <= known  # data goes on to the worker


def test_results_over_their_share_go_to_disk_and_come_back(tmp_path):
    held = results_on_host(str(tmp_path), limit_bytes=1_000_000)  # of which 60 % in memory
    arrays = {name: np.full(400_000, value, np.uint8) for value, name in enumerate("ab")}
    held.update(arrays)
    assert (list(held.fast), list(held.slow)) == (["b"], ["a"])
    assert all(np.array_equal(held[name], values) for name, values in arrays.items())


def of_worker(dask_worker):
    return {
        "device": os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0],
        "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
        "memory": dask_worker.memory_manager.memory_limit,
        "threads": dask_worker.state.nthreads,
        "results": type(dask_worker.data).__name__,
    }


def check(found: dict, workers: int, threads: int) -> None:
    limit = MEMORY_LIMIT // workers
    assert len(found) == workers
    assert {one["memory"] for one in found.values()} == {limit}
    assert {one["threads"] for one in found.values()} == {threads}
    assert {one["results"] for one in found.values()} == {"SpillBuffer"}
    assert len({one["device"] for one in found.values()}) == workers
    assert all(one["environment"] == ENVIRONMENT for one in found.values())


def test_two_workers_get_a_gpu_each_and_half_of_the_memory(dask_cuda, monkeypatch):
    """dask-cuda has a switch for machines without GPUs: it then leaves out what asks one."""
    monkeypatch.setenv("DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    make = dask_cuda.LocalCUDACluster
    with (
        dask.config.set(backends._CONFIG),
        make(**cluster_options(2, 3)) as cluster,
        Client(cluster) as client,
    ):
        check(client.run(of_worker), workers=2, threads=3)
        assert client.submit(np.sum, np.ones(5)).result(60) == 5
        link = client.dashboard_link
        assert link.startswith("http://127.0.0.1:")
        with urlopen(link.replace("/status", "/health"), timeout=10) as answer:
            assert answer.status == 200


@needs_gpu
def test_a_worker_for_each_gpu(dask_cuda):
    assert count_gpus(import_module("pynvml")) == GPUS
    with open_executor(ClusterSpec("cuda", calls_at_once=2)) as executor:
        check(executor.client.run(of_worker), workers=GPUS, threads=2)
        seen = executor.client.run(lambda: str(torch.cuda.get_device_properties(0).uuid))
        assert len(set(seen.values())) == GPUS


@needs_gpu
def test_more_workers_than_gpus_are_refused(dask_cuda):
    error = refusal(ClusterSpec("cuda", workers=GPUS + 1))
    assert (error.code, error.found) == ("gpu_missing", f"{GPUS} GPUs for {GPUS + 1} workers")
