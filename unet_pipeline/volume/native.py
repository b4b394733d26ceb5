"""Labels on the native grid, from scores on the model grid, block by block.

A block's scores, of all classes, stay in the processor's cache, so the array of all classes at
full size exists nowhere. Blocks are shared by threads; a block's labels depend on nothing else.

``Highest`` on a chain of views that only moves and interpolates goes through compiled loops. Every
other decision and chain reads the views, which are also what the loops are tested against: the
labels are the same to the bit.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling import kernels
from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.tiling.decision import Decision, Highest, Labels
from unet_pipeline.tiling.merge import Merged, shared
from unet_pipeline.volume.interpolation import AxisInterpolation, Interpolation, interpolation_of
from unet_pipeline.volume.steps import Prepared
from unet_pipeline.volume.views import ArrayView, ShapeOnly, Voxels

BLOCK = (64, 64, 32)  # native voxels of a block, along the axes in order of interpolation
MOST_MODEL_VOXELS = 32_768  # of a block, for each class
VIEWED_BLOCK = (64, 64, 64)


def native_labels(
    merged: Merged,
    prepared: Prepared,
    write_box: Box,
    decision: Decision,
    label_type: npt.DTypeLike,
    *,
    threads: int = 1,
) -> Labels:
    """Return the labels of a box of native voxels, shape XYZ, the first axis innermost.

    Parameters
    ----------
    merged
        Scores of all model voxels that the box needs.
    """
    chain = prepared.backward(ShapeOnly(prepared.model.shape))
    interps = interpolation_of(chain, write_box) if isinstance(decision, Highest) else None
    labels_XYZ: Labels = np.zeros(write_box.shape, label_type, order="F")
    if interps is None:
        fill = _viewed(merged, prepared, write_box, decision, labels_XYZ)
        shared(threads, fill, [*Box.whole(labels_XYZ.shape).blocks(VIEWED_BLOCK)])
    else:
        labels_UVW = labels_XYZ.transpose([interp.outer_axis for interp in interps])
        fill = _looped(merged, interps, labels_UVW)
        shared(threads, fill, [*Box.whole(labels_UVW.shape).blocks(_block_shape(interps))])
    return labels_XYZ


def _viewed(
    merged: Merged, prepared: Prepared, write_box: Box, decision: Decision, labels_XYZ: Labels
) -> Callable[[Box], None]:
    shape = prepared.model.shape
    chain = prepared.backward(ShapeOnly(shape))

    def fill(block: Box) -> None:
        box = block.shifted(write_box.start)
        needed = chain.needs(box)

        def native(index: int) -> Voxels:
            model_XYZ = decision.before_resampling(merged.scores(needed, index))
            view = prepared.backward(ArrayView(model_XYZ[None], needed, shape))
            values_XYZ: Voxels = view.read(box)[0]
            return values_XYZ

        scores_of_channels = map(native, range(merged.classes))
        labels_XYZ[_slices(block)] = decision.decide(scores_of_channels, labels_XYZ.dtype)

    return fill


def _looped(merged: Merged, interps: Interpolation, labels_UVW: Labels) -> Callable[[Box], None]:
    def fill(block: Box) -> None:
        part = _slices(block)
        cut = [interp[along] for interp, along in zip(interps, part, strict=True)]
        if all(interp.stop for interp in cut):  # else all scores are 0: the first class
            labels_UVW[part] = _highest(merged, cut).T

    return fill


def _highest(merged: Merged, interps: Sequence[AxisInterpolation]) -> npt.NDArray[np.int32]:
    """Return the class of the highest score of each voxel of a block, shape WVU."""
    axes = [interp.inner_axis for interp in interps]
    along = sorted(interps, key=lambda interp: interp.inner_axis)
    box = Box(index3(interp.start for interp in along), index3(interp.stop for interp in along))
    total_Cuvw = merged.totals(box).transpose(0, *(axis + 1 for axis in axes))
    total_Cuvw.flags.writeable = False
    weight_uvw = np.ascontiguousarray(merged.weights(box).transpose(axes))
    u, v, w = (interp.length for interp in interps)
    mean_Cwvu = np.empty((merged.classes, w, v, u), np.float32)
    bounds_C2 = np.empty((merged.classes, 2), np.float32)
    kernels.mean_scores(total_Cuvw, weight_uvw, mean_Cwvu, bounds_C2)
    U, V, W = map(len, interps)
    buffers = np.empty((w, v, U), np.float32), np.empty((w, V, U), np.float32)
    best_WVU, label_WVU = np.empty((W, V, U), np.float32), np.empty((W, V, U), np.int32)
    neighbours, weights = zip(*(interp.local() for interp in interps), strict=True)
    kernels.highest_class(mean_Cwvu, bounds_C2, neighbours, weights, buffers, best_WVU, label_WVU)
    return label_WVU


def _block_shape(interps: Interpolation) -> Index3:
    """Halve ``BLOCK`` along its longest model axis until it needs few model voxels."""
    shape = [min(n, len(interp)) for n, interp in zip(BLOCK, interps, strict=True)]
    ratios = [(interp.stop - interp.start) / len(interp) for interp in interps]

    def needed(axis: int) -> float:
        return shape[axis] * ratios[axis] + 1

    while prod(map(needed, range(3))) > MOST_MODEL_VOXELS and max(shape) > 1:
        longest = max((axis for axis in range(3) if shape[axis] > 1), key=needed)
        shape[longest] = -(-shape[longest] // 2)
    return index3(shape)


def _slices(box: Box) -> tuple[slice, slice, slice]:
    return box.within(Box.whole((0, 0, 0)))
