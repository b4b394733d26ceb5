"""The compiled loop that resamples a label map."""

from typing import Any

import numpy as np

from unet_pipeline.tiling.compiling import compiled


@compiled
def vote(
    labels: Any,
    at_3X: Any,
    at_3Y: Any,
    at_3Z: Any,
    share_X: Any,
    share_Y: Any,
    share_Z: Any,
    lowest: Any,
    found_XYZ: Any,
) -> None:
    """Give each voxel the label that weighs most among its eight neighbours.

    Parameters
    ----------
    at_3X, at_3Y, at_3Z
        For each voxel along an axis: the neighbours below and above, and the nearest.
    share_X, share_Y, share_Z
        Weight of the one above.
    lowest
        Whether the lowest label wins a tie, or the nearest voxel's if it is one of the best.
    """
    seen_8, weight_8 = np.empty(8, labels.dtype), np.empty(8)
    for i in range(found_XYZ.shape[0]):
        for j in range(found_XYZ.shape[1]):
            for k in range(found_XYZ.shape[2]):
                count = 0
                for a in range(2):
                    share_a = share_X[i] if a else 1 - share_X[i]
                    for b in range(2):
                        share_b = share_a * (share_Y[j] if b else 1 - share_Y[j])
                        for c in range(2):
                            share = share_b * (share_Z[k] if c else 1 - share_Z[k])
                            label = labels[at_3X[a, i], at_3Y[b, j], at_3Z[c, k]]
                            count = _weigh_label(label, share, seen_8, weight_8, count)
                nearest = labels[at_3X[2, i], at_3Y[2, j], at_3Z[2, k]]
                found_XYZ[i, j, k] = _heaviest(seen_8, weight_8, count, nearest, lowest)


@compiled
def _weigh_label(label: Any, share: Any, seen_8: Any, weight_8: Any, count: Any) -> Any:
    """Add to the weight of a label, a new one at the end; return how many there are."""
    place = 0
    while place < count and seen_8[place] != label:
        place += 1
    if place == count:
        seen_8[place], weight_8[place] = label, 0.0
        count += 1
    weight_8[place] += share
    return count


@compiled
def _heaviest(seen_8: Any, weight_8: Any, count: Any, nearest: Any, lowest: Any) -> Any:
    """Return the label that weighs most, of several as ``vote`` says."""
    best, most = seen_8[0], weight_8[0]
    for place in range(1, count):
        label, weight = seen_8[place], weight_8[place]
        before = label < best
        if not lowest:
            before = label == nearest or (before and best != nearest)
        if weight > most or (weight == most and before):
            best, most = label, weight
    return best
