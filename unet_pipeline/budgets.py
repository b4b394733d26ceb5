"""Which memory budget a case's tiles have: that of the request, or less where memory ran out.

With half of it tiles are smaller, and more lies in scratch. The label map does not depend on it.
"""

from dataclasses import replace
from pathlib import Path

from unet_pipeline.cluster.executor import Executor
from unet_pipeline.cluster.room import LEAST_BYTES
from unet_pipeline.request import plan_from_header
from unet_pipeline.scratch import scratch_name
from unet_pipeline.volume.header import Header
from unet_pipeline.volume_job import VolumeJob, within

_fitting: dict[tuple[object, ...], int] = {}  # what fits, by model, where memory ran out


def budgeted(job: VolumeJob, executor: Executor) -> VolumeJob:
    """Return a job with what its calls may take, and what later cases of its model begin with."""
    job = within(job, executor.call_bytes)
    known = _fitting.get(job.spec.key)
    return job if known is None or known >= job.memory_bytes else with_budget(job, known)


def with_budget(job: VolumeJob, memory_bytes: int) -> VolumeJob:
    """Return a job that has less, and says so in its record; with scratch of its own."""
    steps = (*job.memory_steps, step_to(memory_bytes, job.memory_bytes))
    parent = Path(job.scratch).parent if job.scratch and "/" in job.scratch else None
    scratch = job.scratch and scratch_name(parent)
    return replace(job, memory_bytes=memory_bytes, tile=None, memory_steps=steps, scratch=scratch)


def step_to(memory_bytes: float, before: float) -> str:
    """Say that tiles have a smaller budget."""
    return f"tiles for {memory_bytes / 1e9:.3g} GB of {before / 1e9:.3g} GB"


def halved(job: VolumeJob, header: Header, executor: Executor) -> VolumeJob | None:
    """Return a job with half its budget, or as little as makes its tiles smaller; None if none."""
    budget: int | None = executor.result(executor.submit(smaller_budget, job, header))
    return None if budget is None else with_budget(job, budget)


def smaller_budget(job: VolumeJob, header: Header) -> int | None:
    """Return the largest half, quarter ... of a job's budget whose plan takes less; None if none.

    Of a volume whose shape its voxels decide, no plan can be made yet: half is taken as smaller.
    """
    before, budget = plan_from_header(job, header), job.memory_bytes // 2
    while budget >= LEAST_BYTES:
        plan = plan_from_header(replace(job, memory_bytes=budget, tile=None), header)
        if before is None or plan is None or plan.peak_bytes_per_tile < before.peak_bytes_per_tile:
            return budget
        budget //= 2
    return None


def remember(job: VolumeJob) -> None:
    """Let later cases of a model begin with the budget that was enough for one."""
    _fitting[job.spec.key] = job.memory_bytes
