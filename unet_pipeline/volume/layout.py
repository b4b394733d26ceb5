"""Work on volumes in the order in which their voxels lie in memory, whatever their axes are called.

A file's first axis is the inner one of its memory, that of our arrays is the last; reordered views
may have any. Going through memory across its order costs ten times as much as along it, so voxels
stay as they lie until one copy at the end.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.volume import kernels

Array = npt.NDArray[Any]
Voxels = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_LINE = 64  # bytes of a cache line
_SMALL = 2**12  # voxels that are not worth a compiled copy


def mixed(values: Voxels, axis: int, below: Indices, above: Indices, share: Voxels) -> Voxels:
    """Return ``below x (1 - share) + above x share`` along an axis; laid out as ``values`` are.

    Parameters
    ----------
    below, above
        Index of the two values that make up each new one.
    share
        Weight of the one above.
    """
    order, flipped = _order_in_memory(values)
    dense = np.ascontiguousarray(_flip(values, flipped).transpose(order), dtype=np.float32)
    place, last = order.index(axis), values.shape[axis] - 1
    if flipped[axis]:
        below, above = last - below, last - above
    shape = (*dense.shape[:place], len(share), *dense.shape[place + 1 :])
    result = np.empty(shape, np.float32)
    weights = (below, above, 1 - share, share)
    if place == values.ndim - 1:
        rows = dense.reshape(-1, dense.shape[-1])
        kernels.mix_within_rows(rows, *weights, result.reshape(-1, len(share)))
    else:
        outer = int(np.prod(shape[:place]))
        kernels.mix_rows(
            dense.reshape(outer, last + 1, -1), *weights, result.reshape(outer, len(share), -1)
        )
    flipped[axis] = False
    return _flip(result.transpose(np.argsort(order)), flipped)


def copy_into(target_CXYZ: Array, source_CXYZ: Array) -> None:
    """Copy values to an array of the same shape and type that may lie otherwise in memory."""
    inner = _order_in_memory(source_CXYZ)[0][-1]
    wanted = _order_in_memory(target_CXYZ)[0][-1]
    if inner == wanted or source_CXYZ.size < _SMALL:
        target_CXYZ[...] = source_CXYZ
        return
    outer = [axis for axis in range(4) if axis not in (inner, wanted)]
    turned = (*outer, inner, wanted)
    width = _LINE // target_CXYZ.itemsize
    block = np.empty((width, width), target_CXYZ.dtype)
    for source, target in zip(
        source_CXYZ.transpose(turned), target_CXYZ.transpose(turned), strict=True
    ):
        kernels.copy_turned(source, target, block)


def in_order(values_CXYZ: Voxels) -> Voxels:
    """Return values in C order: as they are, or a copy."""
    if values_CXYZ.flags.c_contiguous:
        return values_CXYZ
    result_CXYZ = np.empty(values_CXYZ.shape, values_CXYZ.dtype)
    copy_into(result_CXYZ, values_CXYZ)
    return result_CXYZ


def _order_in_memory(values: Array) -> tuple[list[int], list[bool]]:
    """Return the axes from the outermost to the innermost of memory, and which run backwards."""
    steps = [abs(s) if n > 1 else -1 for s, n in zip(values.strides, values.shape, strict=True)]
    order = sorted(range(values.ndim), key=lambda axis: -steps[axis])
    single = [axis for axis in order if steps[axis] < 0]  # where they lie makes no difference
    flipped = [s < 0 < n - 1 for s, n in zip(values.strides, values.shape, strict=True)]
    return single + [axis for axis in order if steps[axis] >= 0], flipped


def _flip(values: Array, flipped: list[bool]) -> Array:
    return values[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]
