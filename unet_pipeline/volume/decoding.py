"""Decode one file: its voxels as stored, in memory while they fit, else in scratch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unet_pipeline.clock import check_time
from unet_pipeline.errors import CaseError
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.sidecar import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.axes import OF_LABELS, XYZ, Axes
from unet_pipeline.volume.formats import reader_of
from unet_pipeline.volume.formats.protocol import MOST_BYTES, ReadOptions
from unet_pipeline.volume.forms import Form
from unet_pipeline.volume.header import Header
from unet_pipeline.volume.kept import CHUNK, KeptArray, keep, keeping
from unet_pipeline.volume.labels import as_labels
from unet_pipeline.volume.views import Voxels

NanRule = Literal["min"] | float | None  # the number that it stands for
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class StoredView:
    """A file's voxels as stored, in memory or in scratch; read with slope and intercept.

    Attributes
    ----------
    values_XYZ
        Stored values, or None if they are ``kept``.
    kept
        Stored values in scratch.
    value_range
        Smallest and largest stored value.
    first_slice
        Where the volume begins in what is kept, along the third axis.
    filled
        Voxels of the file that were NaN and have a number now.
    """

    header: Header
    values_XYZ: npt.NDArray[Any] | None
    kept: KeptArray | None = None
    value_range: tuple[float, float] = (-np.inf, np.inf)
    channels: int = 1
    first_slice: int = 0
    filled: int = 0

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.header.grid.shape

    @property
    def sliced(self) -> Any:
        """Stored values, shape XYZ, that are read where they are sliced, and nowhere else."""
        return self.values_XYZ if self.kept is None else self.kept

    def stored(self, box: Box) -> npt.NDArray[Any]:
        """Return stored values, not scaled, shape XYZ."""
        x, y, z = box.within(Box.whole(self.shape))
        z = slice(z.start + self.first_slice, z.stop + self.first_slice)
        return np.asarray(self.sliced[x, y, z])

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape 1XYZ."""
        check_time()
        return self.header.scaled(self.stored(box))[None]

    def values(self) -> npt.NDArray[Any]:
        """Return all values, shape XYZ: as stored, or as float32 where the header scales them."""
        whole = Box.whole(self.shape)
        return self.stored(whole) if self.header.is_plain else self.read(whole)[0]

    def needs(self, box: Box) -> Box:
        """Return ``box``."""
        return box


@dataclass(frozen=True)
class VolumeRead:
    """A decoded file, its volumes one by one, and the digests of its files."""

    views: tuple[StoredView, ...]
    inputs: tuple[InputDigest, ...]

    @property
    def view(self) -> StoredView:
        """The first volume, nearly always the only one."""
        return self.views[0]


def read_volume(
    store: Store,
    url: str,
    *,
    role: str,
    budget_bytes: int,
    scratch: str | None = None,
    form: Form | None = None,
    most_bytes: int = MOST_BYTES,
    versions: Versions | None = None,
    axes: Axes = XYZ,
    nan: NanRule = None,
) -> VolumeRead:
    """Decode one file, in memory if it fits ``budget_bytes``, and digest its files.

    What it may have instead of three axes in space, ``axes`` says. NaN is refused, or
    taken for a number, or for the smallest one in the file.

    Raises
    ------
    CaseError
        What its format's reader finds; ``volume_too_large``; ``voxels_not_finite`` for values that
        are no finite float32; ``input_changed`` for a file of another version, or one that
        is replaced meanwhile.
    """
    options = ReadOptions(form, axes, most_bytes)
    with reader_of(url).open(store, url, options, role, versions or {}) as source:
        header = source.header
        look = _Look(header, role, nan)
        with _room(header, scratch, budget_bytes) as (kept, target):
            for part, values in source.slabs(
                target if kept is None else None, CHUNK[2], budget_bytes
            ):
                look.at(part, values)
                if kept is not None:
                    target[:, :, part] = values
            if kept is None and not header.dtype.isnative:
                target = target.byteswap(inplace=True).view(header.dtype.newbyteorder("="))
            if look.filled:
                _fill(target, look.instead_of_nan())
    return VolumeRead(_views(target, kept, look), source.inputs())


@contextmanager
def _room(
    header: Header, scratch: str | None, budget_bytes: int
) -> Iterator[tuple[KeptArray | None, Any]]:
    """Make room for all volumes of a file, one behind the other: in memory, or in scratch."""
    x, y, depth = header.grid.shape
    shape = (x, y, depth * header.volumes)
    if header.nbytes <= budget_bytes:
        yield None, np.empty(shape, header.dtype, order="F")
        return
    with keeping(scratch, shape, header.dtype.newbyteorder("=")) as room:
        yield room


def _views(target: Any, kept: KeptArray | None, look: "_Look") -> tuple[StoredView, ...]:
    header, depth = look.header, look.depth
    return tuple(
        StoredView(
            header,
            target[:, :, first : first + depth] if kept is None else None,
            kept,
            value_range,
            first_slice=0 if kept is None else first,
            filled=look.filled,
        )
        for first, value_range in zip(range(0, target.shape[2], depth), look.ranges, strict=True)
    )


class _Look:
    """What the values of a file span, volume by volume: looked at once, while they are at hand."""

    def __init__(self, header: Header, role: str, nan: NanRule) -> None:
        self.header, self.role, self.nan = header, role, nan
        self.depth = header.grid.shape[2]
        self.ranges, self.filled = [(np.inf, -np.inf)] * header.volumes, 0

    def at(self, part: slice, values: npt.NDArray[Any]) -> None:
        """Look at a slab, which may begin in one volume and end in another."""
        for index in range(part.start // self.depth, (part.stop - 1) // self.depth + 1):
            start = max(index * self.depth - part.start, 0)
            self._of_volume(index, values[:, :, start : (index + 1) * self.depth - part.start])

    def _of_volume(self, index: int, values: npt.NDArray[Any]) -> None:
        holes = int(np.count_nonzero(np.isnan(values))) if self._may_hold_nan else 0
        self.filled += holes
        if holes == values.size:
            return
        ends = (np.nanmin(values), np.nanmax(values)) if holes else (values.min(), values.max())
        low, high = map(float, ends)
        if not _are_float32((low, high), self.header):
            raise _not_finite(self.role)
        before = self.ranges[index]
        self.ranges[index] = min(before[0], low), max(before[1], high)

    @property
    def _may_hold_nan(self) -> bool:
        return self.nan is not None and self.header.dtype.kind == "f"

    def instead_of_nan(self) -> float:
        """Return the stored value that NaN stands for; the ranges then hold it, too."""
        low = min(low for low, _ in self.ranges)
        if not np.isfinite(low):
            raise _not_finite(self.role)
        value = low
        if isinstance(self.nan, float):
            value = (self.nan - self.header.inter) / self.header.slope
        if abs(value) > np.finfo(self.header.dtype).max:
            raise _not_finite(self.role)
        self.ranges = [(min(a, value), max(b, value)) for a, b in self.ranges]
        return value


def read_labels(
    store: Store, url: str, *, budget_bytes: int
) -> tuple[npt.NDArray[Any], tuple[InputDigest, ...]]:
    """Read a label map that was written here, in any format, shape XYZ, and digest its bytes."""
    with scratch_folder() as scratch:
        read = read_volume(
            store,
            url,
            role="mask",
            budget_bytes=budget_bytes,
            scratch=str(scratch),
            axes=OF_LABELS,
        )
        return as_labels(read.view.values()), read.inputs


def keep_labels(
    labels_XYZ: npt.NDArray[Any], header: Header, *, budget_bytes: int, scratch: str | None
) -> StoredView:
    """Keep a label map on the grid of a file: in memory if it fits ``budget_bytes``.

    Else it goes to a scratch folder, as the voxels of a file do.
    """
    header = replace(header, dtype=labels_XYZ.dtype, slope=1.0, inter=0.0)
    if labels_XYZ.nbytes <= budget_bytes:
        return StoredView(header, labels_XYZ)
    return StoredView(header, None, keep(labels_XYZ, scratch))


def _fill(target: Any, value: float) -> None:
    """Put a number in the place of NaN, slab by slab; ``target`` may lie in scratch."""
    for first in range(0, target.shape[2], CHUNK[2]):
        slab = np.asarray(target[:, :, first : first + CHUNK[2]])
        target[:, :, first : first + CHUNK[2]] = np.where(np.isnan(slab), value, slab)


def _not_finite(role: str) -> CaseError:
    is_mask = role == "mask"
    return CaseError(
        "voxels_not_finite",
        found=f"{'mask ' if is_mask else ''}voxels that are NaN, infinite or beyond the range of "
        "float32",
        wanted="finite numbers",
        remedy="If NaN is its background, say --remedies nan-to-zero"
        if is_mask
        else "Replace them; or let NaN be the value of air (--remedies nan=-1024), or the image's "
        "smallest value (--remedies nan-to-min)",
    )


def _are_float32(stored: tuple[float, float], header: Header) -> bool:
    """Say whether the smallest and the largest stored value, once scaled, are finite float32."""
    return all(abs(value * header.slope + header.inter) <= _LARGEST for value in stored)
