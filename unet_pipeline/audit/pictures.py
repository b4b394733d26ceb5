"""Pictures of doubtful pairs: the mask over the image, in three planes."""

import numpy as np
import numpy.typing as npt

from unet_pipeline.errors import PipelineError
from unet_pipeline.gate.alignment import allowed_mm
from unet_pipeline.gate.examine import Policy
from unet_pipeline.records import Case
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.regrid import conformed
from unet_pipeline.volume.staging import StoredView, as_labels, read_volume

MAX_BYTES = 2_000_000_000  # of one decoded file: a larger one is not drawn


def pair_picture(store: Store, case: Case, policy: Policy) -> bytes | None:
    """Draw a case as a PNG; None if its files cannot be read.

    Filled is the mask laid over the image voxel for voxel, as a program does that ignores headers;
    dashed is where its header says that it lies. Where the shapes differ only the second is drawn.
    """
    try:
        image = _read(store, case.images[0], policy) if case.images else None
        mask = _read(store, case.mask, policy) if case.mask is not None else None
        return None if image is None else _drawn(image, mask, policy)
    except (PipelineError, np.linalg.LinAlgError):
        return None


def _drawn(image: StoredView, mask: StoredView | None, policy: Policy) -> bytes:
    grid = image.header.grid
    by_voxel = by_world = None
    if mask is not None:
        labels_XYZ = as_labels(mask.values())
        by_world = _by_world(labels_XYZ, mask.header.grid, grid, policy)
        by_voxel = labels_XYZ if mask.shape == image.shape else None
    filled = by_voxel if by_voxel is not None else by_world
    if filled is None:
        filled = np.zeros(grid.shape, np.uint8)
    moved = mask is not None and mask.header.grid != grid
    dashed = by_world if by_voxel is not None and moved else None
    return overlay_png(
        image.stored(Box.whole(image.shape)),
        filled,
        grid.spacing_mm,
        dashed,
        axcodes=tuple(grid.axcodes),
        dashed="by its header",
    )


def _read(store: Store, url: str, policy: Policy) -> StoredView:
    return read_volume(store, url, role="volume", budget_bytes=MAX_BYTES, form=policy.form).view


def _by_world(
    labels_XYZ: npt.NDArray[np.integer], source: VoxelGrid, target: VoxelGrid, policy: Policy
) -> npt.NDArray[np.integer] | None:
    """Return the labels where the mask's header says they lie; None if it says nothing usable."""
    if not np.isfinite(source.affine).all() or not np.isfinite(target.affine).all():
        return None
    allowed = allowed_mm(target, policy.tolerance)
    return conformed(labels_XYZ, source, target, allowed, "nearest")
