"""Decoded volumes, each read once: in memory while they fit, else in files of a scratch folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.scratch import scratch_folder


class ArrayCache:
    """Keeps arrays up to a budget as they are, and further ones in files mapped into memory.

    A crop of a mapped array reads its own part of the file only, and the system's page cache keeps
    what there is room for.
    """

    def __init__(self, budget_bytes: float, folder: Path) -> None:
        self.left, self.folder, self.files = budget_bytes, folder, 0

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the same values."""
        self.left -= array.nbytes
        if self.left >= 0:
            return array
        path = self.folder / f"{self.files}.npy"
        self.files += 1
        np.save(path, array)
        return np.asarray(np.load(path, mmap_mode="r"))


@contextmanager
def open_array_cache(budget_bytes: float) -> Iterator[ArrayCache]:
    """Open a cache; its files are removed at the end."""
    with scratch_folder() as folder:
        yield ArrayCache(budget_bytes, folder)
