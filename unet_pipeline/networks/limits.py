"""A network is no larger than its weights file: what would be is stopped while it is built."""

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_NEW = frozenset(
    getattr(torch.ops.aten, name) for name in ("empty", "zeros", "ones", "full", "rand", "randn")
)
_SPARE = 2**24  # values beside the parameters: buffers, and what is thrown away again
_LEAST = 2**10  # values that a tensor counts as at least, for the modules around it


class ValuesAtMost(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets new tensors be made until their values add up to more than a file can hold.

    Parameters
    ----------
    file_bytes
        Size of the file: at least one byte of it stands for each value.

    Raises
    ------
    ValueError
        Instead of the tensor that would be too much.
    """

    def __init__(self, file_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.file_bytes = file_bytes
        self.left = file_bytes + _SPARE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count what an operation is about to make, and do it."""
        if func.overloadpacket in _NEW:
            self.left -= max(math.prod(args[0]), _LEAST)
            if self.left < 0:
                raise ValueError(f"more values than weights of {self.file_bytes:,} bytes hold")
        return func(*args, **(kwargs or {}))
