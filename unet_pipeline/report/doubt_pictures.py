"""A picture of what is doubtful about a label map: three planes through the place of the doubt."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.evaluation.doubts import Doubt
from unet_pipeline.evaluation.review import SCATTERED
from unet_pipeline.postprocessing.parts import parts_of
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.report.reread import MOST_BYTES, reread
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Index3, index3
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.volume.axes import OF_LABELS
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.probe import probe_header


def doubt_png(
    store: Store, image: str, label_map: str, doubt: Doubt, names: Mapping[int, str]
) -> bytes | None:
    """Draw a case through the middle of the label that a doubt is about, or through its stray part.

    Return None where there is no such place, as the label is absent.

    Raises
    ------
    CaseError
        For files that cannot be read, or do not lie on each other.
    """
    grid = probe_header(store, label_map, most_bytes=MOST_BYTES, axes=OF_LABELS).header.grid
    labels_XYZ, _ = read_labels(store, label_map, budget_bytes=MOST_BYTES)
    place = place_of(labels_XYZ, doubt)
    if place is None:
        return None
    with reread(store, image) as image_XYZ:
        return overlay_png(
            image_XYZ,
            labels_XYZ,
            grid.spacing_mm,
            axcodes=tuple(grid.axcodes),
            names=names,
            place=place,
        )


def place_of(labels_XYZ: Labels, doubt: Doubt) -> Index3 | None:
    """Return the voxel that a doubt is about: of the label, or of its largest stray part."""
    mask_XYZ = labels_XYZ == int(doubt.label)
    if doubt.what.startswith(SCATTERED):
        parts = parts_of(mask_XYZ.view(np.uint8))
        if parts.voxels.size > 2:  # background, and two parts
            second = np.zeros(parts.voxels.size, np.bool_)
            second[1 + np.argsort(parts.voxels[1:], kind="stable")[-2]] = True
            mask_XYZ = np.zeros_like(mask_XYZ)
            for slab, parts_XYZ in parts.slabs_with(second):
                mask_XYZ[..., slab] = second[parts_XYZ]
    return _middle(mask_XYZ)


def _middle(mask_XYZ: NDArray[np.bool_]) -> Index3 | None:
    """Return the voxel of a mask that is nearest to its centroid, in voxels."""
    found = np.argwhere(mask_XYZ)
    if not len(found):
        return None
    away = ((found - found.mean(axis=0)) ** 2).sum(axis=1)
    return index3(int(value) for value in found[int(np.argmin(away))])
