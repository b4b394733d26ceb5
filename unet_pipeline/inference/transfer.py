"""Batches on their way to a device, sums on their way back, and the time a device takes.

On CUDA everything is asynchronous: windows go to pinned memory and from there to the device on a
stream of their own, while the network works on the batch before; two buffers take turns. On a CPU
a batch is one buffer that is filled again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from unet_pipeline.tiling.merge import Sums
from unet_pipeline.volume.views import Voxels

Timestamp = float | torch.cuda.Event


@dataclass(frozen=True)
class Span:
    """Time of a device between two moments, or a share of it."""

    begin: Timestamp
    end: Timestamp
    share: float = 1.0

    @property
    def seconds(self) -> float:
        """The share in seconds; waits until the device is there."""
        begin, end = self.begin, self.end
        if isinstance(begin, float) and isinstance(end, float):
            return (end - begin) * self.share
        assert not isinstance(begin, float)  # noqa: S101  both moments are of one device
        assert not isinstance(end, float)  # noqa: S101
        end.synchronize()
        return float(begin.elapsed_time(end)) * self.share / 1000


class DeviceTransfer:
    """Puts windows side by side in a batch of a fixed shape; places without one are zero.

    Parameters
    ----------
    shape
        Of a batch, BCXYZ.
    memory_format
        Order of a batch in memory that suits the network.
    """

    def __init__(self, shape: Sequence[int], memory_format: torch.memory_format) -> None:
        self._batch_BCXYZ = torch.zeros(*shape).contiguous(memory_format=memory_format)

    def load(self, windows: Sequence[Voxels]) -> torch.Tensor:
        """Return windows (each CXYZ) as a batch on the device, valid until the next is loaded."""
        _fill(self._batch_BCXYZ, windows)
        return self._batch_BCXYZ

    def unload(self, sums_CXYZ: torch.Tensor) -> Sums:
        """Return sums of the device as an array, once they are computed."""
        return sums_CXYZ.numpy()

    def timestamp(self) -> Timestamp:
        """Return the time at which the device has done what it was given so far."""
        return perf_counter()


class CudaTransfer(DeviceTransfer):
    """A transfer whose copies to and from a CUDA device run beside the network."""

    def __init__(
        self, shape: Sequence[int], memory_format: torch.memory_format, device: torch.device
    ) -> None:
        empty = torch.zeros(*shape).contiguous(memory_format=memory_format)
        self._pinned = [empty.pin_memory() for _ in range(2)]
        self._batches = [empty.to(device) for _ in range(2)]
        self._inward, self._outward = _stream(device), _stream(device)
        self._copied = [_event() for _ in range(2)]
        self._scored = [_event() for _ in range(2)]
        self._turn = 0

    def load(self, windows: Sequence[Voxels]) -> torch.Tensor:
        """Start the copy to the device; what is launched from now on waits for it."""
        network = torch.cuda.current_stream()
        self._scored[self._turn].record(network)  # all that uses the batch before is launched
        self._turn = turn = 1 - self._turn
        self._copied[turn].synchronize()
        _fill(self._pinned[turn], windows)
        with torch.cuda.stream(self._inward):
            self._inward.wait_event(self._scored[turn])
            self._batches[turn].copy_(self._pinned[turn], non_blocking=True)
            self._copied[turn].record(self._inward)
        network.wait_event(self._copied[turn])
        return self._batches[turn]

    def unload(self, sums_CXYZ: torch.Tensor) -> Sums:
        """Copy through pinned memory; the network may go on with other windows meanwhile.

        Sums on the host are as they are.
        """
        if not sums_CXYZ.is_cuda:
            return sums_CXYZ.numpy()
        array_CXYZ = torch.empty(sums_CXYZ.shape, dtype=sums_CXYZ.dtype, pin_memory=True)
        self._outward.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._outward):
            array_CXYZ.copy_(sums_CXYZ, non_blocking=True)
            copied = _event()
            copied.record(self._outward)
        copied.synchronize()
        return array_CXYZ.numpy()

    def timestamp(self) -> Timestamp:
        """Return an event of the network's stream; it can be read once it has passed."""
        event = _event(timed=True)
        event.record()
        return event


def make_transfer(
    shape: Sequence[int],
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> DeviceTransfer:
    """Return the transfer of a device."""
    if device.type == "cuda":
        return CudaTransfer(shape, memory_format, device)
    return DeviceTransfer(shape, memory_format)


def _fill(batch_BCXYZ: torch.Tensor, windows: Sequence[Voxels]) -> None:
    for place, window_CXYZ in enumerate(windows):
        np.copyto(batch_BCXYZ[place].numpy(), window_CXYZ)
    batch_BCXYZ[len(windows) :].zero_()


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _event(timed: bool = False) -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=timed)  # type: ignore[no-untyped-call]
