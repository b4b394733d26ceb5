"""A network is no larger than its weights file: what would be is stopped while it is built."""

import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_NEW = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
)  # with their sizes first
_SPARE = 2**24  # values beside the parameters: buffers, and what is thrown away again
_LEAST = 2**10  # values that a tensor counts as at least, for the modules around it


class ValuesAtMost(TorchFunctionMode):
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
        super().__init__()
        self.file_bytes = file_bytes
        self.left = file_bytes + _SPARE

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count what a function is about to make, and call it."""
        if func in _NEW:
            size = (kwargs or {}).get("size") or args
            sizes = size[0] if size and not isinstance(size[0], int) else size
            self.left -= max(math.prod(sizes), _LEAST)
            if self.left < 0:
                raise ValueError(f"more values than weights of {self.file_bytes:,} bytes hold")
        return func(*args, **(kwargs or {}))
