"""A picture of what changed in a case: both label maps, in three planes through the change."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.report.planes import busiest_voxel
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.axes import ANY_NUMBER, OF_LABELS, Axes
from unet_pipeline.volume.decoding import read_labels, read_volume
from unet_pipeline.volume.probe import probe_header

_OF_IMAGES = Axes(channels=ANY_NUMBER, flat=True)
_IN_MEMORY = 10**9  # bytes of an image that is not put into scratch
MOST_BYTES = 2 * 10**9  # of a volume that is read again for its picture


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
        with suppress(CaseError), scratch_folder() as scratch:  # else without it
            view = read_volume(
                store,
                image,
                role="image0",
                budget_bytes=_IN_MEMORY,
                scratch=str(scratch),
                most_bytes=MOST_BYTES,
                axes=_OF_IMAGES,
            ).view
            return drawn(view.sliced)
    return drawn(np.broadcast_to(np.uint8(0), new_XYZ.shape))
