"""How loops over voxels are compiled."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
from numba import njit

from unet_pipeline.caches import cache_of


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; keep the code on disk, in a folder that is the user's alone."""
    _keep_in_cache()
    kept: Callable[..., Any] = njit(nogil=True, cache=True, error_model="numpy")(function)
    return kept


@cache
def _keep_in_cache() -> None:
    """Say to Numba where it keeps what it loads again as code."""
    numba.config.CACHE_DIR = str(cache_of("numba"))  # type: ignore[attr-defined]  # set by name


def start_compiled() -> None:
    """Let Numba load what it loads at the first call of any compiled loop, for 0.3 s."""
    _nothing()


@compiled
def _nothing() -> None:
    pass
