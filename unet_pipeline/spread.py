"""Steps of a large case, resolved by all workers: each looks at some slabs, the driver adds up.

What is found in a slab is small, and is put together in the order of the slabs, as one worker
would: so the numbers are the same to the bit (``volume/statistics.py``).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from unet_pipeline.cluster.executor import Executor, Handle
from unet_pipeline.tasks import Outline, look_in, outline_of
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.statistics import Look
from unet_pipeline.volume.steps import Prepared, Resolved, Step, prepare
from unet_pipeline.volume.views import ShapeOnly, View, Voxels


class NeedsVoxelsHereError(Exception):
    """A step looks at voxels in a way that only one worker can."""


class SpreadView:
    """A case on the workers after some steps; nothing of it is read here."""

    def __init__(
        self,
        read: Handle,
        executor: Executor,
        geometry: View,
        steps: tuple[Resolved, ...] = (),
        seconds: list[float] | None = None,
    ) -> None:
        self._read, self._executor, self._steps = read, executor, steps
        self._geometry = geometry
        self.seconds = [] if seconds is None else seconds  # that looks took, on the workers

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self._geometry.shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._geometry.channels

    def after(self, step: Resolved) -> "SpreadView":
        """Return the view after a step."""
        steps, geometry = (*self._steps, step), step.apply(self._geometry)
        return SpreadView(self._read, self._executor, geometry, steps, self.seconds)

    def each(self, boxes: Sequence[Box], look: Look) -> Iterator[Any]:
        """Have workers look at the boxes; yield what each finds, in their order."""
        submit = self._executor.submit
        for handle in [submit(look_in, self._read, self._steps, box, look) for box in boxes]:
            found, seconds = self._executor.result(handle)
            self.seconds.append(seconds)
            yield found

    def needs(self, box: Box) -> Box:
        """Return the box of the file's voxels that ``box`` is made of."""
        return self._geometry.needs(box)

    def read(self, box: Box) -> Voxels:
        """Refuse: voxels stay where they are."""
        raise NeedsVoxelsHereError(f"voxels of {box}")


def resolved_by_all(
    read: Handle, steps: Sequence[Step], executor: Executor
) -> tuple[Prepared, float] | None:
    """Resolve steps for a case in scratch; None where one worker is as good, or must do it.

    Returns
    -------
    prepared, seconds
        What all looks took together.
    """
    if executor.workers < 2 or not any(step.measures for step in steps):
        return None
    outline: Outline | None = executor.result(executor.submit(outline_of, read))
    if outline is None:
        return None
    view = SpreadView(read, executor, ShapeOnly(outline.grid.shape, outline.channels))
    try:
        prepared = prepare(steps, view, outline.grid)
    except NeedsVoxelsHereError:
        return None
    return prepared, sum(view.seconds)
