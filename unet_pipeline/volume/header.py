"""What is known of a volume before a voxel is read, whatever its format."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.volume.forms import Forms
from unet_pipeline.volume.grid import VoxelGrid


@dataclass(frozen=True)
class Remark:
    """What a format leaves open, and how it is read; the gate passes it on."""

    code: str
    found: str
    wanted: str
    read: str


@dataclass(frozen=True)
class Header:
    """What the pipeline needs of a header; none of its free text.

    Attributes
    ----------
    dtype
        Type of the stored voxels, with byte order.
    slope, inter
        value = stored x slope + inter.
    forms
        The places that a NIfTI header gives; ``grid`` follows one of them. None where a format has
        one place only.
    repairs
        Fields whose values the standard does not allow, and how they were read, in words.
    volumes
        Volumes of ``grid`` that are read, one behind the other: the channels of an image.
    first, stored
        The first of these, counted from 0, and how many volumes the file holds.
    flat
        Whether the file has two axes: ``grid`` is then one slice.
    remarks
        What the format leaves open.
    own
        What only the format knows, for its reader and its writer.
    """

    grid: VoxelGrid
    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0
    forms: Forms | None = None
    repairs: tuple[str, ...] = ()
    volumes: int = 1
    first: int = 0
    stored: int = 1
    flat: bool = False
    remarks: tuple[Remark, ...] = ()
    own: Any = None

    @property
    def is_plain(self) -> bool:
        """Whether values are what is stored: no slope and no intercept."""
        return (self.slope, self.inter) == (1.0, 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels that are read, as stored, decompressed."""
        return self.volume_bytes * self.volumes

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume."""
        return int(np.prod(self.grid.shape, dtype=object)) * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """Bytes of all volumes of the file, decompressed."""
        return self.volume_bytes * self.stored

    def scaled(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return stored values as float32, by slope and intercept."""
        if self.is_plain:
            return np.asarray(stored, dtype=np.float32)
        values = stored.astype(np.float64) * self.slope + self.inter
        return np.asarray(values, dtype=np.float32)


def header_of(shape: Any, affine: npt.ArrayLike, dtype: npt.DTypeLike) -> Header:
    """Return the header of a new volume."""
    return Header(VoxelGrid.of(shape, affine), np.dtype(dtype))
