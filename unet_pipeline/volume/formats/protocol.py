"""What a format has to offer: a reader, and a writer if label maps may have it."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.label_maps import Objects
from unet_pipeline.storage.sidecar import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions
from unet_pipeline.volume.axes import XYZ, Axes
from unet_pipeline.volume.forms import Form
from unet_pipeline.volume.header import Header

MOST_BYTES = 64 * 10**9  # decoded, of one volume, unless a request says otherwise
VOXELS = ".voxels"  # behind the role of what holds the voxels of a header beside it
Slabs = Iterator[tuple[slice, npt.NDArray[Any]]]


@dataclass(frozen=True)
class ReadOptions:
    """How a volume is to be read.

    Attributes
    ----------
    form
        The form of a NIfTI header to take where there are two.
    axes
        What it may have instead of three axes in space.
    most_bytes
        Decoded bytes that it may claim.
    """

    form: Form | None = None
    axes: Axes = XYZ
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True)
class ProbeResult:
    """A header, which versions of its files were read, and how many bytes of them."""

    header: Header
    bytes_read: int
    versions: Versions


class Source(Protocol):
    """A volume that is open: its voxels come as a stream of slabs, once."""

    @property
    def header(self) -> Header:
        """The header, read again."""
        ...

    def slabs(self, target_XYZ: npt.NDArray[Any] | None, depth: int, most_bytes: int) -> Slabs:
        """Yield ranges of the third axis with their stored values, not scaled, shape XYZ.

        Several volumes follow each other along the third axis.

        Parameters
        ----------
        target_XYZ
            Where the voxels are put: of the header's shape and type, in Fortran order. None for
            an array of each slab's own.
        depth
            Slices of a slab without a target, or a multiple of it.
        most_bytes
            Of a slab that has more slices than that.
        """
        ...

    def inputs(self) -> tuple[InputDigest, ...]:
        """Return the digests of all objects, once all slabs have come."""
        ...


class Reader(Protocol):
    """How volumes of one format are read.

    What cannot be read raises ``CaseError``; an object that is replaced meanwhile is
    ``input_changed``.
    """

    def objects(self, store: Store, url: str, level: int) -> dict[str, str]:
        """Return the objects that make up a volume, by what their roles end with.

        The first has no ending. Other objects of the store have no part in the volume, in its
        version or in its digests.
        """
        ...

    def probe(self, store: Store, url: str, options: ReadOptions) -> ProbeResult:
        """Read a header, hold its claims against what is stored, and against ``most_bytes``."""
        ...

    def open(
        self, store: Store, url: str, options: ReadOptions, role: str, versions: Versions
    ) -> AbstractContextManager[Source]:
        """Open a volume of these versions; they are compared at the end, too."""
        ...


@dataclass(frozen=True)
class Legend:
    """What the numbers of a label map mean, for formats that say so: names, and colours (RGB)."""

    names: Mapping[int, str]
    colours: Mapping[int, tuple[int, int, int]]


NO_LEGEND = Legend({}, {})


class Writer(Protocol):
    """How label maps of one format are written."""

    def check(self, header: Header) -> None:
        """Refuse a place that the format cannot hold, before any work.

        Raises
        ------
        CaseError
        """
        ...

    def encode(
        self, values_XYZ: npt.NDArray[Any], like: Header, legend: Legend = NO_LEGEND
    ) -> Objects:
        """Return the objects of a label map with the place of ``like``.

        Each with its name below the label map (empty where it is one file), the one that makes it
        a volume last. The same values give the same bytes, also where they are gone through once
        more; then they are encoded anew, and so never all in memory. That holds for the objects,
        and for the parts of a large one.
        """
        ...


def check_size(header: Header, most_bytes: int) -> None:
    """Refuse a volume by what its header claims, before anything of it is decoded.

    Raises
    ------
    CaseError
        ``volume_too_large``.
    """
    if header.stored_bytes > most_bytes:
        raise CaseError(
            "volume_too_large",
            found=f"a header that claims {' x '.join(map(str, header.grid.shape))} voxels, "
            f"{header.stored_bytes / 1e9:,.3g} GB",
            wanted=f"at most {most_bytes / 1e9:,.3g} GB",
            remedy="Look whether the header is right; if it is, raise --max-volume-gb",
        )
