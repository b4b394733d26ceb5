"""Windows of one value, such as air after clipping, or the zeros around a volume.

The same input has the same scores, to the bit, wherever it lies and whatever shares its batch. So
the scores of a window whose channels are each one value are computed once and kept.
"""

from collections import OrderedDict
from threading import Lock

import numpy as np
import torch

from unet_pipeline.volume.views import Voxels

PROBES = 4  # along each axis; they tell most windows apart from constant ones

Key = bytes


def constant_value(window_CXYZ: Voxels) -> Key | None:
    """Return the value of each channel, as bytes, or None if a channel has more than one.

    Bits are compared, so 0 and -0 are two values, and NaN is one.
    """
    bits = window_CXYZ.view(np.uint32)
    first = bits[:, :1, :1, :1]
    x, y, z = (max(1, n // PROBES) for n in bits.shape[1:])
    if (bits[:, ::x, ::y, ::z] != first).any() or (bits != first).any():
        return None
    return first.tobytes()


class ScoreCache:
    """Keeps the scores of windows of one value; the least recently used make room.

    Parameters
    ----------
    max_bytes
        Bytes that the scores may take together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._scores: OrderedDict[Key, torch.Tensor] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> torch.Tensor | None:
        """Return the scores of a value, shape CXYZ, if they are kept."""
        with self._lock:
            if key in self._scores:
                self._scores.move_to_end(key)
            return self._scores.get(key)

    def put(self, key: Key, scores_CXYZ: torch.Tensor) -> None:
        """Keep the scores of a value."""
        with self._lock:
            self._scores[key] = scores_CXYZ
            while sum(scores.nbytes for scores in self._scores.values()) > self.max_bytes:
                self._scores.popitem(last=False)
