"""An image that is read again, for a picture of what became of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.axes import ANY_NUMBER, Axes
from unet_pipeline.volume.decoding import read_volume

MOST_BYTES = 2 * 10**9  # of a volume that is read again for its picture
_OF_IMAGES = Axes(channels=ANY_NUMBER, flat=True)
_IN_MEMORY = 10**9  # bytes of an image that is not put into scratch


@contextmanager
def reread(store: Store, image: str) -> Iterator[Any]:
    """Read an image; its first volume, shape XYZ, can be sliced while the block lasts.

    Raises
    ------
    CaseError
        As ``read_volume``.
    """
    with scratch_folder() as scratch:
        view = read_volume(
            store,
            image,
            role="image0",
            budget_bytes=_IN_MEMORY,
            scratch=str(scratch),
            most_bytes=MOST_BYTES,
            axes=_OF_IMAGES,
        ).view
        yield view.sliced
