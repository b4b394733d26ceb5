"""A network that scores the windows of a tile; loaded once per process.

Windows go through the network in batches of one fixed shape (a short batch is padded with zeros),
because the same window gives scores that differ in the last bits between batch sizes. Within one
batch shape a window's scores depend neither on its place in the batch nor on its neighbours.
They do depend on the number of CPU threads, which is therefore a setting and the same everywhere.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from math import prod

import torch

from unet_pipeline.cost import added
from unet_pipeline.errors import RequestError
from unet_pipeline.inference.accumulator import ScoreAccumulator
from unet_pipeline.inference.batches import BatchQueue, BatchSlot, Call
from unet_pipeline.inference.constant import ScoreCache
from unet_pipeline.inference.engines import Problem, make_engine
from unet_pipeline.inference.importance import importance_map
from unet_pipeline.inference.spec import ModelSpec, WindowStats
from unet_pipeline.inference.streaming import Decide, StreamingMerge
from unet_pipeline.inference.transfer import Span, make_transfer
from unet_pipeline.inference.window_queue import WindowQueue
from unet_pipeline.networks.loading import load_network
from unet_pipeline.networks.mirroring import Mirrored
from unet_pipeline.networks.pruning import at_depth
from unet_pipeline.networks.slices import SliceNetwork
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.merge import Sums
from unet_pipeline.tiling.plan import SCORE_BYTES
from unet_pipeline.tiling.window_order import WindowOrder
from unet_pipeline.volume.views import Voxels

REUSE_BYTES = 2**30
MOST_WINDOWS = 4096  # of a call that queue up at a time


@dataclass(frozen=True)
class Arrangement:
    """What of a predictor's memory can be less: the windows of a batch, and where sums lie."""

    batch: int
    sums_on_host: bool = False

    def less(self, device: torch.device) -> "Arrangement | None":
        """Return what takes less: half the batch, then sums on the host; None if nothing does."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if device.type != "cpu" and not self.sums_on_host:
            return replace(self, sums_on_host=True)
        return None

    def steps_from(self, asked: int) -> tuple[str, ...]:
        """Say in what it is less than a batch that was asked for, with sums on the device."""
        batch = f"batch {self.batch} of {asked}: near ties may have another label"
        return (batch,) * (self.batch < asked) + ("sums on the host",) * self.sums_on_host


@dataclass(frozen=True)
class Scored:
    """What became of the windows of one call: fixed-point sums of weight x score on its box."""

    sums_CXYZ: Sums
    stats: WindowStats


class Predictor:
    """A network on a device.

    Calls of several threads share batches (``BatchQueue``); one batch at a time uses the device.

    Parameters
    ----------
    network
        The network of the bundle, where it is in memory already, as in training; it is used as it
        is, put into evaluation mode, and must not change as long as this predictor is used.
        Default: it is loaded.
    reuse_bytes
        Bytes of device memory for the scores of windows of a constant value. If those of one
        window take more, such windows are computed like any other.
    arrangement
        What takes less memory than the spec asks for.
    """

    def __init__(
        self,
        spec: ModelSpec,
        network: torch.nn.Module | None = None,
        reuse_bytes: int = REUSE_BYTES,
        arrangement: Arrangement | None = None,
    ) -> None:
        self.threads = spec.threads or os.cpu_count() or 1
        torch.set_num_threads(self.threads)
        self.device = device_of(spec.device)
        # scripts of a trusted bundle may import what no digest knows
        known = network is None and not spec.bundle.own_network
        network = network or load_network(spec.bundle, spec.store)
        network = at_depth(network, spec.depth, spec.bundle.adaptive)
        if spec.bundle.slice_axis is not None:
            network = SliceNetwork(network, spec.bundle.slice_axis)
        mirrored = Mirrored(network, spec.mirror) if spec.mirror else network
        self.network = mirrored.eval().to(self.device)
        self.spec, self.roi_size = spec, spec.roi_size
        self.classes, self._reuse_bytes = spec.bundle.out_channels, reuse_bytes
        self._made_from = spec.made_from if known else None
        self._arrange(arrangement or Arrangement(spec.batch))

    def arranged(self, arrangement: Arrangement) -> "Predictor":
        """Return a predictor of the same network that is arranged otherwise."""
        other = copy(self)
        other._arrange(arrangement)
        return other

    def _arrange(self, arrangement: Arrangement) -> None:
        """Prepare batches of one shape; scores of another are not known here."""
        spec, self.arrangement, self.batch = self.spec, arrangement, arrangement.batch
        weights = torch.from_numpy(importance_map(spec.roi_size, spec.blend))
        self.importance = weights if arrangement.sums_on_host else weights.to(self.device)
        shape = (self.batch, spec.bundle.in_channels, *spec.roi_size)
        made_from = self._made_from and {**self._made_from, "shape": list(shape)}
        self.problem = Problem(self.network, shape, self.device, self.threads, made_from)
        self.engine = make_engine(spec.engine, self.problem)
        self._transfer = make_transfer(shape, self.device, self.engine.memory_format)
        self._queue = BatchQueue(self.batch, self._run)
        self._known = ScoreCache(self._reuse_bytes)
        self._reuses = SCORE_BYTES * self.classes * prod(spec.roi_size) <= self._reuse_bytes

    def score(self, values_CXYZ: Voxels, read_box: Box, windows: Iterable[Index3]) -> Scored:
        """Score windows and add them up in fixed point.

        Parameters
        ----------
        values_CXYZ
            What the network sees of the model voxels of ``read_box``.
        windows
            First voxel of each window; all lie inside ``read_box``.

        Raises
        ------
        CaseError
            ``scores_not_finite`` if the network gives NaN or numbers out of range.
        """
        total = ScoreAccumulator(self.classes, read_box, self.importance, self.threads)
        stats = self._serve(values_CXYZ, read_box, windows, total.add)
        total.check()
        return Scored(self._transfer.unload(total.sums()), stats)

    def stream(
        self, values_CXYZ: Voxels, read_box: Box, order: WindowOrder, decide: Decide
    ) -> WindowStats:
        """Score windows in an order; let labels be decided as sums are complete.

        Parameters
        ----------
        values_CXYZ, read_box
            As for ``score``.
        decide
            As for ``StreamingMerge``. What it did is of no worth if an error is raised.

        Raises
        ------
        CaseError
            As ``score`` does.
        """
        total = ScoreAccumulator(
            self.classes,
            order.box,
            self.importance,
            self.threads,
            axis=order.axis,
            length=order.length,
        )
        merge = StreamingMerge(total, order, self._transfer, decide, aside=total.on_cuda)
        try:
            stats = self._serve(values_CXYZ, read_box, order.windows, merge.add)
        finally:
            merge.close()
        merge.check()
        total.check()
        infer = stats.seconds["infer"] - merge.seconds
        return replace(stats, seconds={**stats.seconds, "infer": infer})

    def _serve(
        self,
        values_CXYZ: Voxels,
        read_box: Box,
        windows: Iterable[Index3],
        add: Callable[[torch.Tensor, Box], None],
    ) -> WindowStats:
        """Let ``add`` have the scores of all windows, one after the other, in their order.

        They queue up ``MOST_WINDOWS`` at a time, so that what is known of each takes no memory that
        grows with their number.
        """
        steps = self.arrangement.steps_from(self.spec.batch)
        stats, rest = WindowStats({"infer": 0.0, "forward": 0.0}, memory_steps=steps), iter(windows)
        while part := [*islice(rest, MOST_WINDOWS)]:
            more = self._serve_part(values_CXYZ, read_box, part, add)
            stats = replace(
                stats,
                seconds=added([stats.seconds, more.seconds]),
                windows=stats.windows + more.windows,
                reused=stats.reused + more.reused,
            )
        return stats

    def _serve_part(
        self,
        values_CXYZ: Voxels,
        read_box: Box,
        windows: Sequence[Index3],
        add: Callable[[torch.Tensor, Box], None],
    ) -> WindowStats:
        boxes = (Box.at(start, self.roi_size) for start in windows)
        cut = ((box, values_CXYZ[(slice(None), *box.within(read_box))]) for box in boxes)
        pending = WindowQueue(cut, self._known if self._reuses else None, add)
        call = Call(pending.to_run, pending.receive)
        with torch.inference_mode():
            begin = self._transfer.timestamp()
            pending.advance()
            ahead = Span(begin, self._transfer.timestamp())
            self._queue.serve(call)
        seconds = {
            "infer": sum(span.seconds for span in (ahead, *call.held)),
            "forward": sum(span.seconds for span in call.forward),
        }
        return WindowStats(seconds, len(windows), pending.reused)

    def _run(self, slots: Sequence[BatchSlot]) -> None:
        """Run a batch; each call receives the scores of its windows, and its share of the time."""
        begin = self._transfer.timestamp()
        batch_BCXYZ = self._transfer.load([call.windows[index] for call, index in slots])
        loaded = self._transfer.timestamp()
        scores_BCXYZ = self.engine(batch_BCXYZ)
        scored = self._transfer.timestamp()
        share = 1 / len(slots)
        for place, (call, index) in enumerate(slots):
            call.forward.append(Span(loaded, scored, share))
            call.held.append(Span(begin, scored, share))
            received = self._transfer.timestamp()
            try:
                call.receive(index, scores_BCXYZ[place])
            except Exception as error:
                call.error = error
            call.held.append(Span(received, self._transfer.timestamp()))


def device_of(wanted: str) -> torch.device:
    """Return the device of this process that ``ModelSpec.device`` means."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise RequestError(
            "cuda_missing",
            found="no CUDA device",
            wanted="one, for --cluster cuda",
            remedy="Use --cluster local, or a machine with an NVIDIA GPU and a CUDA build of torch",
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
