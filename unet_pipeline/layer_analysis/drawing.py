"""Feature maps of a case's layers, drawn on chosen slices."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from unet_pipeline.layer_analysis.cases import CaseBlock
from unet_pipeline.layer_analysis.inspected_network import InspectedNetwork
from unet_pipeline.report.feature_maps import Slice, feature_sheet
from unet_pipeline.report.planes import VIEWS, View, ras_axes

log = logging.getLogger(__name__)

Box3 = tuple[slice, slice, slice]


def feature_figures(
    inspected: InspectedNetwork,
    block: CaseBlock,
    layers: Sequence[str],
    view: str,
    slices: Sequence[int],
) -> Iterator[tuple[str, bytes]]:
    """Yield a title (the layer and the slice) and a PNG for each layer and slice.

    Parameters
    ----------
    view
        ``axial``, ``coronal`` or ``sagittal``.
    slices
        Voxels of the model grid along the axis that the view looks along; those outside the
        case's block are passed over with a warning. None: the slice with most foreground.
    """
    chosen = next(one for one in VIEWS if one.title.lower() == view)
    axis = ras_axes(block.grid.axcodes)[chosen.along]
    for index in slices or [_fullest_slice(block, axis)]:
        box = _window_with(block, axis, index)
        if box is None:
            first, stop = block.box.start[axis], block.box.stop[axis]
            log.warning("no slice %d: the block goes from %d to %d", index, first, stop - 1)
            continue
        yield from _drawn(inspected, block, layers, chosen, index, box)


def _drawn(
    inspected: InspectedNetwork,
    block: CaseBlock,
    layers: Sequence[str],
    view: View,
    index: int,
    box: Box3,
) -> Iterator[tuple[str, bytes]]:
    values_CXYZ = np.ascontiguousarray(block.values_CXYZ[(slice(None), *box)])
    axis = ras_axes(block.grid.axcodes)[view.along]
    x, y, z = block.grid.spacing_mm
    where = Slice(
        view,
        index - block.box.start[axis] - box[axis].start,
        tuple(block.grid.axcodes),
        (float(x), float(y), float(z)),
    )
    for layer in layers:
        features_CXYZ = inspected.features(torch.from_numpy(values_CXYZ)[None], layer)[0]
        title = f"{layer}, {view.title.lower()} {index}"
        maps_CXYZ = features_CXYZ.cpu().numpy()
        yield title, feature_sheet(values_CXYZ[0], block.labels_XYZ[box], maps_CXYZ, where, title)


def _fullest_slice(block: CaseBlock, axis: int) -> int:
    """Return the voxel of the model grid at which most foreground lies; else the middle one."""
    others = tuple(other for other in range(3) if other != axis)
    counts = (block.labels_XYZ > 0).sum(axis=others)
    index = int(counts.argmax()) if counts.any() else len(counts) // 2
    return block.box.start[axis] + index


def _window_with(block: CaseBlock, axis: int, index: int) -> Box3 | None:
    """Return the window with most foreground on a slice; None if no window has that slice."""
    at = index - block.box.start[axis]
    holding = [box for box in block.boxes() if box[axis].start <= at < box[axis].stop]

    def foreground(box: Box3) -> int:
        part: NDArray[np.int16] = np.take(block.labels_XYZ[box], at - box[axis].start, axis=axis)
        return int(np.count_nonzero(part > 0))

    return max(holding, key=foreground, default=None)
