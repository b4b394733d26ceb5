"""Workers on the GPUs of this machine, by dask-cuda: one process for each.

No result of a call stays on a GPU: between calls the predictor alone has its network there, in
PyTorch's memory. So nothing is spilled from a GPU, and RMM is left alone. Results in the machine's
memory go to disk as on workers without a GPU. Reads and merges need no GPU: they are further
threads of the process, and calls that do need it stand in its queue (``inference/batches.py``).
"""

import os
from typing import Any

import dask
import torch
from distributed import LocalCluster, Security
from distributed.spill import SpillBuffer
from distributed.system import MEMORY_LIMIT

from unet_pipeline.cluster.dashboard import dashboard_options
from unet_pipeline.cluster.places.protocol import Place
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.errors import RequestError


def start_cuda(spec: ClusterSpec, security: Security | None = None) -> LocalCluster:
    """Start a worker for each GPU, or for the first ``spec.workers`` of them.

    Raises
    ------
    RequestError
        ``cuda_missing`` without dask-cuda, or with a PyTorch that knows no CUDA; ``gpu_missing``
        where there are not as many GPUs.
    """
    try:
        import pynvml
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise _cuda_missing(f"no dask-cuda that can be imported ({error})") from error
    there = count_gpus(pynvml)
    if spec.most > there:
        raise _gpu_missing(f"{there} GPUs for {spec.most} workers")
    if torch.version.cuda is None:
        raise _cuda_missing(f"PyTorch {torch.__version__}, which knows no CUDA")
    options = cluster_options(spec.workers or there, spec.calls_at_once, security)
    cluster: LocalCluster = LocalCUDACluster(**options)
    return cluster


def cluster_options(workers: int, threads: int, security: Security | None = None) -> dict[str, Any]:
    """Return what dask-cuda is told; the workers share the machine's memory evenly."""
    limit_bytes = MEMORY_LIMIT // workers
    return {
        "n_workers": workers,
        "threads_per_worker": threads,
        "memory_limit": limit_bytes,
        "device_memory_limit": None,
        "data": (results_on_host, {"limit_bytes": limit_bytes}),
        "security": security,
        "protocol": "tls://" if security else None,
        "scheduler_kwargs": dashboard_options(security),
        "silence_logs": 40,
    }


def results_on_host(worker_local_directory: str, limit_bytes: int) -> SpillBuffer:
    """Return where a worker keeps its results: in memory, and on disk above Dask's usual share.

    dask-cuda's own place, without spilling from the GPU, says of itself that it is empty.
    """
    share = dask.config.get("distributed.worker.memory.target") or 1.0
    return SpillBuffer(f"{worker_local_directory}/storage", int(share * limit_bytes))


def count_gpus(nvml: Any) -> int:
    """Ask NVIDIA's library (``pynvml``) how many GPUs a run may use, without taking one up.

    Raises
    ------
    RequestError
        ``gpu_missing`` without a driver, or where CUDA_VISIBLE_DEVICES names what is not there.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        nvml.nvmlInit()
        if named is None:
            return int(nvml.nvmlDeviceGetCount())
        for name in (names := named.split(",")):
            if name.strip().isdecimal():
                nvml.nvmlDeviceGetHandleByIndex(int(name))
            else:  # the UUID of a GPU, or of a part of one (MIG)
                nvml.nvmlDeviceGetHandleByUUID(name.encode())
        return len(names)
    except nvml.NVMLError as error:
        place = "" if named is None else f" of CUDA_VISIBLE_DEVICES={named}"
        raise _gpu_missing(f"NVIDIA's library says{place}: {error}") from error


def _cuda_missing(found: str) -> RequestError:
    return RequestError(
        "cuda_missing",
        found=found,
        wanted="dask-cuda, which gives each worker one GPU, and a PyTorch for CUDA",
        remedy="pip install 'unet-pipeline[cuda]', or start one `dask worker` per GPU with "
        "CUDA_VISIBLE_DEVICES set and use --cluster tcp://...",
    )


def _gpu_missing(found: str) -> RequestError:
    return RequestError(
        "gpu_missing",
        found=found,
        wanted="one GPU of NVIDIA for each worker, and its driver",
        remedy="Look at `nvidia-smi` and CUDA_VISIBLE_DEVICES, ask for fewer --workers, or take "
        "--cluster local",
    )


PLACE = Place(
    start_cuda,
    advice="Look at the memory of this machine, at `nvidia-smi` and at the workers' last words",
)
