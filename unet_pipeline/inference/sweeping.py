"""Sums of which only the last few are alive: what is complete is decided behind the windows."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

import torch

from unet_pipeline.inference.total import Total
from unet_pipeline.inference.transfer import Feed
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.course import Course, Sweep
from unet_pipeline.tiling.merge import Partial

Decide = Callable[[Sweep, Sequence[Partial]], None]


class Behind:
    """Receives the scores of windows in the order of a course, and lets labels be decided.

    On a CPU that happens at once, for the network and the decision need the same cores. On CUDA
    it happens aside, in another thread, on a copy of the sums, while the network goes on.

    Parameters
    ----------
    total
        Has ``course.length`` places along ``course.axis``.
    feed
        Brings sums from the device.
    decide
        Is given each sweep whose write box has voxels, and the sums of its score box; on a CPU
        these are views that are valid until it returns.
    aside
        Whether to decide in another thread. What the feed brings must be copies then.
    """

    def __init__(
        self, total: Total, course: Course, feed: Feed, decide: Decide, *, aside: bool
    ) -> None:
        self.seconds = 0.0  # in which the device waited for decisions
        self._total, self._course, self._feed, self._decide = total, course, feed, decide
        self._sweeps = iter(course.sweeps)
        self._sweep = next(self._sweeps)
        self._left = len(self._sweep.windows)
        self._pool = ThreadPoolExecutor(1) if aside else None
        self._deciding: list[Future[None]] = []

    def add(self, scores_CXYZ: torch.Tensor, window: Box) -> None:
        """Add the scores of the next window."""
        self._total.add(scores_CXYZ, window)
        self._left -= 1
        if not self._left:
            self._complete(self._sweep)
            self._sweep = next(self._sweeps, self._sweep)
            self._left = len(self._sweep.windows)

    def close(self) -> None:
        """Wait for what is being decided."""
        if self._pool is not None:
            self._pool.shutdown()

    def check(self) -> None:
        """Raise what went wrong with a decision in another thread."""
        for future in self._deciding:
            future.result()

    def _complete(self, sweep: Sweep) -> None:
        if sweep.write_box.size:
            partials = [
                Partial(part, self._feed.unload(sums_CXYZ))
                for part, sums_CXYZ in self._total.parts(sweep.score_box)
            ]
            if self._pool is None:
                begin = perf_counter()
                self._decide(sweep, partials)
                self.seconds += perf_counter() - begin
            else:
                self._deciding.append(self._pool.submit(self._decide, sweep, partials))
        if sweep is not self._course.sweeps[-1]:
            self._total.clear(self._total.frame.between(self._course.axis, *sweep.released))
