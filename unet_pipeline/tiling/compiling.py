"""How loops over voxels are compiled."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; keep the code on disk where there is a folder to write to."""
    try:
        kept: Callable[..., Any] = njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found none
        kept = njit(nogil=True, error_model="numpy")(function)
    return kept
