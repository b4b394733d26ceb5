"""Labels on the native grid, from scores on the model grid, block by block.

A block's scores, of all classes, stay in the processor's cache, so the array of all classes at
full size exists nowhere. Blocks are shared by threads; a block's labels depend on nothing else.

``Highest`` on a chain of views that only moves and interpolates goes through compiled loops. Every
other decision and chain reads the views, which are also what the loops are tested against: the
labels are the same to the bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling import kernels
from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.tiling.decision import Decision, Highest, Labels
from unet_pipeline.tiling.margins import MOST, STEPS, SURE_LEAD, TABLE, Margins, margins_of
from unet_pipeline.tiling.merge import Merged, shared, smallest_label_type
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
    margins_XYZ: Margins | None = None,
    background: bool = True,
) -> Labels:
    """Return the labels of a box of native voxels, shape XYZ, the first axis innermost.

    Parameters
    ----------
    merged
        Scores of all model voxels that the box needs.
    margins_XYZ
        Filled with how sure each label is (``tiling/margins.py``), if given; 0 where there are no
        scores at all.
    background
        Whether anybody looks at the margins under label 0. If not, some are left as they are.
    """
    chain = prepared.backward(ShapeOnly(prepared.model.shape))
    interps = interpolation_of(chain, write_box) if isinstance(decision, Highest) else None
    labels_XYZ: Labels = np.zeros(write_box.shape, label_type, order="F")
    if interps is None:
        fill = _viewed(merged, prepared, write_box, decision, labels_XYZ, margins_XYZ)
        shared(threads, fill, [*Box.whole(labels_XYZ.shape).blocks(VIEWED_BLOCK)])
    else:
        axes = [interp.outer_axis for interp in interps]
        labels_UVW = labels_XYZ.transpose(axes)
        margins_UVW = None if margins_XYZ is None else margins_XYZ.transpose(axes)
        fill = _looped(merged, interps, labels_UVW, margins_UVW, background)
        shared(threads, fill, [*Box.whole(labels_UVW.shape).blocks(_block_shape(interps))])
    return labels_XYZ


def _viewed(
    merged: Merged,
    prepared: Prepared,
    write_box: Box,
    decision: Decision,
    labels_XYZ: Labels,
    margins_XYZ: Margins | None,
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

        scores_of_channels, part = map(native, range(merged.classes)), _slices(block)
        if margins_XYZ is None:
            labels_XYZ[part] = decision.decide(scores_of_channels, labels_XYZ.dtype)
            return
        decided = decision.decide_with_lead(scores_of_channels, labels_XYZ.dtype)
        labels_XYZ[part], margins_XYZ[part] = decided[0], margins_of(decided[1])

    return fill


def _looped(
    merged: Merged,
    interps: Interpolation,
    labels_UVW: Labels,
    margins_UVW: Margins | None,
    background: bool,
) -> Callable[[Box], None]:
    def fill(block: Box) -> None:
        part = _slices(block)
        cut = [interp[along] for interp, along in zip(interps, part, strict=True)]
        if all(interp.stop for interp in cut):
            scores = _BlockScores.of(merged, cut)
            with_margins = margins_UVW is not None and (background or not scores.is_background)
            label_WVU, margin_WVU = scores.highest(cut, with_margins=with_margins)
            labels_UVW[part] = label_WVU.T
            if margins_UVW is not None and margin_WVU is not None:
                margins_UVW[part] = margin_WVU.T
        elif margins_UVW is not None:  # all scores are 0: the first class, by nothing
            margins_UVW[part] = 0 if merged.classes > 1 else MOST

    return fill


@dataclass(frozen=True)
class _BlockScores:
    """The mean scores that a block needs, with each class's lowest and highest."""

    mean_Cwvu: npt.NDArray[np.float32]
    bounds_C2: npt.NDArray[np.float32]

    @classmethod
    def of(cls, merged: Merged, interps: Sequence[AxisInterpolation]) -> "_BlockScores":
        """Divide sums by weights."""
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
        return cls(mean_Cwvu, bounds_C2)

    @property
    def is_background(self) -> bool:
        """Whether only the first class can win anywhere."""
        return not (self.bounds_C2[1:, 1] >= self.bounds_C2[:, 0].max()).any()

    def highest(
        self, interps: Sequence[AxisInterpolation], *, with_margins: bool
    ) -> tuple[Labels, Margins | None]:
        """Return the class of the highest score of each voxel, shape WVU, and its margin."""
        (_, w, v, _), (U, V, W) = self.mean_Cwvu.shape, map(len, interps)
        buffers = np.empty((w, v, U), np.float32), np.empty((w, V, U), np.float32)
        best_WVU = np.empty((W, V, U), np.float32)
        label_WVU: Labels = np.empty((W, V, U), smallest_label_type(len(self.mean_Cwvu)))
        second_WVU = np.empty((W, V, U) if with_margins else (0, 0, 0), np.float32)
        neighbours, weights = zip(*(interp.local() for interp in interps), strict=True)
        chosen = (best_WVU, label_WVU, second_WVU)
        kernels.highest_class(
            self.mean_Cwvu, self.bounds_C2, neighbours, weights, buffers, *chosen, SURE_LEAD
        )
        if not with_margins:
            return label_WVU, None
        margin_WVU = np.empty((W, V, U), np.uint8)
        kernels.lead_margins(best_WVU, second_WVU, STEPS, TABLE, margin_WVU)
        return label_WVU, margin_WVU


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
