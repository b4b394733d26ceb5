"""Where windows lie along an axis: where MONAI or nnU-Net would place them."""

from math import ceil
from typing import Literal

import numpy as np

Placement = Literal["packed", "evenly"]


def window_starts(
    length: int, roi: int, overlap: float, placement: Placement = "packed"
) -> tuple[int, ...]:
    """Return the first voxel of each window along one axis.

    A volume shorter than the window is padded on both sides, so its one window starts before
    voxel 0. Windows ``packed``, as MONAI places them, have one distance, and the last one is moved
    back to end with the volume. Windows placed ``evenly``, as nnU-Net does, move closer together
    until the last one ends with the volume.

    >>> window_starts(10, 4, 0.5)
    (0, 2, 4, 6)
    >>> window_starts(9, 4, 0.5)
    (0, 2, 4, 5)
    >>> window_starts(9, 4, 0.5, "evenly")
    (0, 2, 3, 5)
    >>> window_starts(3, 6, 0.5)
    (-1,)
    """
    if length <= roi:
        return (-((roi - length) // 2),)
    if placement == "evenly" and roi > 1:
        count = ceil((length - roi) / (roi * (1 - overlap))) + 1
        return tuple(int(np.round((length - roi) / (count - 1) * i)) for i in range(count))
    interval = max(int(roi * (1 - overlap)), 1)
    count = ceil((length - roi) / interval) + 1
    return tuple(min(i * interval, length - roi) for i in range(count))
