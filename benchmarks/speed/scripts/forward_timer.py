"""Seconds and windows of a network, counted by hooks; knows nothing but torch."""

from time import perf_counter
from typing import Any

import torch


class ForwardTimer:
    """Counts the calls of a network and the seconds in them, the device waited for.

    Attributes
    ----------
    seconds, windows
        Sums over all calls; a batch counts each of its windows.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.seconds, self.windows, self._begin = 0.0, 0, 0.0
        network.register_forward_pre_hook(self._before)
        network.register_forward_hook(self._after)

    def _before(self, _: torch.nn.Module, inputs: Any) -> None:
        _wait(inputs[0])
        self._begin = perf_counter()

    def _after(self, _: torch.nn.Module, inputs: Any, __: Any) -> None:
        _wait(inputs[0])
        self.seconds += perf_counter() - self._begin
        self.windows += len(inputs[0])


def _wait(values: torch.Tensor) -> None:
    if values.is_cuda:
        torch.cuda.synchronize()
