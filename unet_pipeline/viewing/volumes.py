"""A volume of the store as a stream of NIfTI, made slab by slab by the reader of its format.

A file is not handed on as it lies there. A name says nothing of what a file holds, and the list of
cases may be a stranger's: what is no volume is refused at its header, and of a volume only voxels
and place are sent. Browsers unpack one gzip member and refuse what comes behind, where our own
label maps have several. And all formats come the same way.
"""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import numpy as np

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.formats import format_of
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.axes import ANY_NUMBER, OF_LABELS, Axes
from unet_pipeline.volume.formats import reader_of
from unet_pipeline.volume.formats.nifti_header import header_bytes
from unet_pipeline.volume.formats.protocol import ReadOptions
from unet_pipeline.volume.header import Header
from unet_pipeline.volume.probe import probe_header

OF_IMAGES = Axes(channels=ANY_NUMBER, flat=True)
MOST_BYTES = 4 * 10**9  # decoded; no browser shows more
SLICES, SLAB_BYTES = 16, 64 * 2**20
_AS_STORED = {np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4", "f4")}
IMAGE, LABELS, CONFIDENCE = "image", "labels", "confidence"


@dataclass(frozen=True)
class Stream:
    """A volume that is to be sent.

    Attributes
    ----------
    axes
        Which of the file's volumes.
    header
        As it was probed.
    """

    store: Store
    url: str
    axes: Axes
    header: Header

    @property
    def _dtype(self) -> np.dtype[np.generic]:
        """Stored values where a browser takes their type, else float32, scaled."""
        stored = self.header.dtype.newbyteorder("<")
        kept = self.header.is_plain and stored.newbyteorder("=") in _AS_STORED
        return stored if kept else np.dtype("<f4")

    @property
    def _start(self) -> bytes:
        return header_bytes(self.header.grid.shape, self._dtype, self.header)

    @property
    def size(self) -> int:
        """Bytes of the file that is sent."""
        voxels = int(np.prod(self.header.grid.shape, dtype=object))
        return len(self._start) + voxels * self._dtype.itemsize

    def pieces(self) -> Iterator[bytes]:
        """Yield the file, decoded as it is asked for.

        Raises
        ------
        CaseError
            What the format's reader finds; ``input_changed`` for an object that is replaced.
        """
        options = ReadOptions(axes=self.axes, most_bytes=MOST_BYTES)
        yield self._start
        with ExitStack() as stack:
            reading = reader_of(self.url).open(self.store, self.url, options, IMAGE, {})
            source = stack.enter_context(reading)
            for _, stored_XYZ in source.slabs(None, SLICES, SLAB_BYTES):
                plain = source.header.is_plain
                values_XYZ = stored_XYZ if plain else source.header.scaled(stored_XYZ)
                yield values_XYZ.astype(self._dtype, copy=False).tobytes(order="F")


def stream_of(store: Store, url: str, kind: str, volume: int = 0) -> Stream:
    """Return a volume that is to be sent, its header looked at.

    Parameters
    ----------
    volume
        Along a fourth axis of an image, from 0.

    Raises
    ------
    CaseError
        ``no_volume`` for a name of no format; ``volume_too_large``, and what its reader finds.
    """
    if format_of(url) is None:
        raise CaseError(
            "no_volume",
            found="a name that no volume has",
            wanted="an image or a label map",
            remedy="Look at the list of cases in the folder of the run",
        )
    axes = OF_LABELS if kind == LABELS else Axes(volume=volume, flat=True, optional=True)
    header = probe_header(store, url, most_bytes=MOST_BYTES, axes=axes).header
    return Stream(store, url, axes, header)


def volumes_of(store: Store, url: str) -> int:
    """Return how many volumes an image has along a fourth axis; 1 where that cannot be told."""
    with suppress(CaseError):
        return probe_header(store, url, axes=OF_IMAGES).header.volumes
    return 1
