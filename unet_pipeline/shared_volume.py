"""A case that several models look at: read once, and prepared once where they begin alike."""

from collections.abc import Sequence
from dataclasses import replace

from unet_pipeline.cluster.executor import Executor, Handle
from unet_pipeline.spread import resolved_by_all
from unet_pipeline.tasks import (
    grid_of,
    known_case,
    known_volume,
    look_at_case,
    read_case,
    stage_further_steps,
    stage_resolved,
    stage_volume,
    steps_within,
)
from unet_pipeline.volume.deskew import HandlesShear
from unet_pipeline.volume.steps import Identity, Step
from unet_pipeline.volume_job import VolumeJob

Steps = tuple[Step, ...]


class SharedVolume:
    """The volume of a case on the workers, for the jobs of its models one after the other.

    Reading is tried again by the next job where it failed for one.

    Attributes
    ----------
    jobs
        As they are to be done: all with the scratch of the first.
    """

    def __init__(self, jobs: Sequence[VolumeJob], executor: Executor) -> None:
        self.jobs = tuple(replace(job, scratch=jobs[0].scratch) for job in jobs)
        chains = [job.steps for job in self.jobs if job.region is None]
        self._firsts = list(zip(chains, shared_steps(chains), strict=True))
        self._executor = executor
        self._read: Handle | None = None
        self._beginnings: list[tuple[Steps, Handle]] = []

    def staged(self, job: VolumeJob) -> Handle:
        """Return the handle of the ``StagedCase`` of a job."""
        submit = self._executor.submit
        read = self._read_by(job)
        if job.region is not None:
            grid = submit(grid_of, read)
            steps = submit(steps_within, job, grid)
            return submit(
                look_at_case, read, submit(stage_volume, read, steps, job.memory_bytes), job
            )
        if job.combined:  # no network looks at it, so nothing is prepared
            return submit(look_at_case, read, submit(stage_volume, read, (), 0), job)
        first = next((first for steps, first in self._firsts if steps == job.steps), ())
        if first:
            volume, rest = self._beginning(first, read, job), job.steps[len(first) :]
            if rest:
                volume = submit(stage_further_steps, volume, rest, job.memory_bytes)
        else:
            volume = self._stage(read, job.steps, job)
        return submit(look_at_case, read, volume, job)

    def _stage(self, read: Handle, steps: Steps, job: VolumeJob) -> Handle:
        submit, found = self._executor.submit, resolved_by_all(read, steps, self._executor)
        if found is None:
            return submit(stage_volume, read, steps, job.memory_bytes)
        return submit(stage_resolved, read, *found, job.memory_bytes)

    def _read_by(self, job: VolumeJob) -> Handle:
        if self._read is not None:
            return self._executor.submit(known_case, self._read)
        read = self._executor.submit(read_case, job)
        if len(self.jobs) > 1 or job is not self.jobs[0]:  # of a cascade, the first stage reads
            self._read = read
        return read

    def _beginning(self, first: Steps, read: Handle, job: VolumeJob) -> Handle:
        for steps, volume in self._beginnings:
            if steps == first:
                return self._executor.submit(known_volume, volume)
        volume = self._stage(read, first, job)
        self._beginnings.append((first, volume))
        return volume


def shared_steps(chains: Sequence[Steps]) -> list[Steps]:
    """Return for each chain the longest beginning that another one shares, if it moves voxels.

    Values alone are changed as fast as they are copied. A step that brings a sheared volume to
    right angles in its own way must be among the first, for ``prepare`` would else do so.
    """
    firsts = []
    for index, steps in enumerate(chains):
        others = (*chains[:index], *chains[index + 1 :])
        most = max((_common(steps, other) for other in others), default=0)
        first, rest = steps[:most], steps[most:]
        moves = any(not isinstance(step, Identity) for step in first)
        late = any(isinstance(step, HandlesShear) for step in rest)
        firsts.append(first if moves and not late else ())
    return [first if firsts.count(first) > 1 else () for first in firsts]


def _common(steps: Sequence[Step], others: Sequence[Step]) -> int:
    """Return how many steps two chains begin with alike."""
    for index, (one, other) in enumerate(zip(steps, others, strict=False)):
        if one != other:
            return index
    return min(len(steps), len(others))
