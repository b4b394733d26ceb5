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


def start_compiled() -> None:
    """Let Numba load what it loads at the first call of any compiled loop, for 0.3 s."""
    _nothing()


@compiled
def _nothing() -> None:
    pass
