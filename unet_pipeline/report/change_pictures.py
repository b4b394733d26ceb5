"""A picture of what changed in a case: both label maps, in three planes through the change."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.report.planes import busiest_voxel
from unet_pipeline.report.reread import MOST_BYTES, reread
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.axes import OF_LABELS
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.probe import probe_header


def change_png(
    store: Store, old: str, new: str, image: str | None, names: Mapping[int, str]
) -> bytes | None:
    """Draw the new label map filled and the old one dashed, over the image if there is one.

    The planes are those with most voxels that changed; None if none did.

    Parameters
    ----------
    old, new, image
        URLs.

    Raises
    ------
    CaseError
        For label maps that cannot be read, or do not lie on each other.
    """
    grid = probe_header(store, new, most_bytes=MOST_BYTES, axes=OF_LABELS).header.grid
    old_XYZ, new_XYZ = (read_labels(store, url, budget_bytes=MOST_BYTES)[0] for url in (old, new))
    place = busiest_voxel(old_XYZ != new_XYZ)
    if place is None:
        return None

    def drawn(image_XYZ: NDArray[Any]) -> bytes:
        return overlay_png(
            image_XYZ, new_XYZ, grid.spacing_mm, old_XYZ, axcodes=tuple(grid.axcodes),
            dashed="old", names=names, place=place,
        )  # fmt: skip

    if image is not None:
        with suppress(CaseError), reread(store, image) as image_XYZ:  # else without it
            return drawn(image_XYZ)
    return drawn(np.broadcast_to(np.uint8(0), new_XYZ.shape))
