"""Merge scores as windows stream by: labels are decided, and sums freed, as soon as complete."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

import torch

from unet_pipeline.inference.accumulator import ScoreAccumulator
from unet_pipeline.inference.transfer import DeviceTransfer
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.merge import Partial
from unet_pipeline.tiling.window_order import WindowOrder, WindowSlab

Decide = Callable[[WindowSlab, Sequence[Partial]], None]


class StreamingMerge:
    """Adds the scores of windows in their order, and lets labels be decided as sums are complete.

    On a CPU that happens at once, for the network and the decision need the same cores. On CUDA
    it happens aside, in another thread, on a copy of the sums, while the network goes on.

    Parameters
    ----------
    total
        Has ``order.length`` places along ``order.axis``.
    transfer
        Brings sums from the device.
    decide
        Is given each slab whose write box has voxels, and the sums of its score box; on a CPU
        these are views that are valid until it returns.
    aside
        Whether to decide in another thread. What the transfer brings must be copies then.
    """

    def __init__(
        self,
        total: ScoreAccumulator,
        order: WindowOrder,
        transfer: DeviceTransfer,
        decide: Decide,
        *,
        aside: bool,
    ) -> None:
        self.seconds = 0.0  # in which the device waited for decisions
        self._total, self._order, self._transfer, self._decide = total, order, transfer, decide
        self._slabs = iter(order.slabs)
        self._slab = next(self._slabs)
        self._left = len(self._slab.windows)
        self._pool = ThreadPoolExecutor(1) if aside else None
        self._deciding: list[Future[None]] = []

    def add(self, scores_CXYZ: torch.Tensor, window: Box) -> None:
        """Add the scores of the next window."""
        self._total.add(scores_CXYZ, window)
        self._left -= 1
        if not self._left:
            self._complete(self._slab)
            self._slab = next(self._slabs, self._slab)
            self._left = len(self._slab.windows)

    def close(self) -> None:
        """Wait for what is being decided."""
        if self._pool is not None:
            self._pool.shutdown()

    def check(self) -> None:
        """Raise what went wrong with a decision in another thread."""
        for future in self._deciding:
            future.result()

    def _complete(self, slab: WindowSlab) -> None:
        if slab.write_box.size:
            partials = [
                Partial(part, self._transfer.unload(sums_CXYZ))
                for part, sums_CXYZ in self._total.parts(slab.score_box)
            ]
            if self._pool is None:
                begin = perf_counter()
                self._decide(slab, partials)
                self.seconds += perf_counter() - begin
            else:
                self._deciding.append(self._pool.submit(self._decide, slab, partials))
        if slab is not self._order.slabs[-1]:
            self._total.clear(self._total.box.between(self._order.axis, *slab.released))
