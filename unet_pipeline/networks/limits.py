"""A network is no larger than its weights file: its size is found before it takes up memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_SPARE = 2**24  # values beside the weights: tables that a constructor makes, and throws away
_FILLS = frozenset({"normal_", "uniform_", "fill_", "zero_", "trunc_normal_", "erfinv_", "clamp_",
                    "mul_", "add_"})  # fmt: skip


class _Shapes(TorchFunctionMode):
    """Lets no constructor fill what has no storage, nor ask it for numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, if it does anything to shapes."""
        options = kwargs or {}
        if func is torch.linspace:  # whose numbers are read, one for each block
            options = {**options, "device": "cpu"}
        if args and getattr(func, "__name__", "") in _FILLS:
            return args[0]
        return func(*args, **options)


def without_storage(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network that has shapes and no values, so that it takes no memory and little time."""
    with torch.device("meta"), _Shapes():
        return build()


def check_size(build: Callable[[], nn.Module], file_bytes: int) -> None:
    """Build a network without storage, and hold its values against the file of its weights.

    Parameters
    ----------
    file_bytes
        Size of the file: at least one byte of it stands for each value.

    Raises
    ------
    ValueError
        For more parameters and buffers than the file can hold; what ``build`` raises.
    """
    network = without_storage(build)
    tensors = [*network.parameters(), *network.buffers()]
    if sum(tensor.numel() for tensor in tensors) > file_bytes + _SPARE:
        raise ValueError(f"more values than weights of {file_bytes:,} bytes hold")
