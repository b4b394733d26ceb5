"""Bring a case's voxels to where tiles can read them: in memory while they fit, else in scratch.

gzip cannot be sought, so a file is decoded once, as a stream. Volumes within the budget stay in
memory as stored; larger ones go to a chunked Zarr array in a scratch folder that all workers see.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import zarr

from unet_pipeline.cost import Stopwatch
from unet_pipeline.errors import CaseError
from unet_pipeline.storage.ledger import (
    VOXELS,
    DigestingReader,
    InputDigest,
    digest_bytes,
    voxels_url,
)
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.forms import Form
from unet_pipeline.volume.nifti import read_slabs, scaled
from unet_pipeline.volume.nifti_header import (
    NiftiHeader,
    parse_header,
)
from unet_pipeline.volume.probe import MOST_BYTES, check_size, read_start
from unet_pipeline.volume.regrid import conformed, same_grid
from unet_pipeline.volume.steps import Prepared, Step, prepare
from unet_pipeline.volume.views import View, Voxels, materialised

CHUNK = (128, 128, 32)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class StoredView:
    """A file's voxels as stored, in memory or in scratch; read with slope and intercept.

    Attributes
    ----------
    values_XYZ
        Stored values, or None if they are in ``scratch``.
    scratch
        Folder of a Zarr array of stored values.
    value_range
        Smallest and largest stored value.
    """

    header: NiftiHeader
    values_XYZ: npt.NDArray[Any] | None
    scratch: str | None = None
    value_range: tuple[float, float] = (-np.inf, np.inf)
    channels: int = 1

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.header.grid.shape

    @cached_property
    def _array(self) -> Any:
        return self.values_XYZ if self.scratch is None else zarr.open_array(self.scratch, mode="r")

    def stored(self, box: Box) -> npt.NDArray[Any]:
        """Return stored values, not scaled, shape XYZ."""
        return np.asarray(self._array[box.within(Box.whole(self.shape))])

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape 1XYZ."""
        return scaled(self.stored(box), self.header)[None]

    def values(self) -> npt.NDArray[Any]:
        """Return all values, shape XYZ: as stored, or as float32 where the header scales them."""
        whole = Box.whole(self.shape)
        return self.stored(whole) if self.header.is_plain else self.read(whole)[0]

    def needs(self, box: Box) -> Box:
        """Return ``box``."""
        return box


@dataclass(frozen=True)
class Stacked:
    """Several one-channel views of one shape as the channels of one."""

    inner: tuple[StoredView, ...]

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.inner[0].shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.inner)

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        if len(self.inner) == 1:
            return self.inner[0].read(box)
        return np.concatenate([view.read(box) for view in self.inner])

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner[0].needs(box)


@dataclass(frozen=True)
class Staged:
    """A case, ready to be cut into tiles.

    Attributes
    ----------
    native
        The file's voxels.
    model
        What the network sees.
    prepared
        The way between the two.
    inputs
        Digests of the files that were read.
    seconds
        What it took: ``read`` (fetch and decode) and ``preprocess``.
    """

    native: Stacked
    model: View
    prepared: Prepared
    header: NiftiHeader
    inputs: tuple[InputDigest, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class VolumeRead:
    """A decoded volume, and the digests of its files."""

    view: StoredView
    inputs: tuple[InputDigest, ...]


def stage(
    store: Store,
    urls: Sequence[str],
    steps: Sequence[Step],
    *,
    budget_bytes: int,
    scratch: str | None = None,
    form: Form | None = None,
    allowed_voxels: float = 0.0,
    most_bytes: int = MOST_BYTES,
) -> Staged:
    """Decode the channels of a case, measure what the steps need, and make the model view.

    Parameters
    ----------
    budget_bytes
        What may be held in memory of the stored voxels, and again of the preprocessed ones.
    scratch
        Folder for volumes over the budget. Default: the system's folder for temporary files.
    form
        The form of the header to take where there are two.
    allowed_voxels
        Channels that lie further than this from the grid of the first, in voxels of its smallest
        spacing, are resampled onto it. Whether they may be is the gate's to say.
    most_bytes
        Decoded bytes that a channel may claim: the file may no longer be the one that was probed.
    """
    watch = Stopwatch()
    read = [
        read_volume(
            store, url, role=f"image{i}", budget_bytes=budget_bytes // len(urls), scratch=scratch,
            form=form, most_bytes=most_bytes,
        )
        for i, url in enumerate(urls)
    ]  # fmt: skip
    watch.lap("read")
    first = read[0].view
    allowed_mm = allowed_voxels * min(first.header.grid.spacing_mm)
    native = Stacked((first, *(_onto(first, other.view, allowed_mm) for other in read[1:])))
    prepared = prepare(steps, native, first.header.grid)
    model = prepared.forward(native)
    if 4 * model.channels * int(np.prod(model.shape)) <= budget_bytes:
        model = materialised(model)
    inputs = tuple(digest for one in read for digest in one.inputs)
    watch.lap("preprocess")
    return Staged(native, model, prepared, first.header, inputs, watch.seconds)


def _onto(first: StoredView, other: StoredView, allowed_mm: float) -> StoredView:
    """Return a channel on the grid of the first; values are then as the header scales them."""
    source, target = other.header.grid, first.header.grid
    if same_grid(source, target, allowed_mm):
        return other
    values_XYZ = other.read(Box.whole(other.shape))[0]
    values_XYZ = conformed(values_XYZ, source, target, allowed_mm, "linear")
    header = replace(other.header, grid=target, dtype=values_XYZ.dtype, slope=1.0, inter=0.0)
    return StoredView(header, values_XYZ, None, other.value_range)


def read_volume(
    store: Store,
    url: str,
    *,
    role: str,
    budget_bytes: int,
    scratch: str | None = None,
    form: Form | None = None,
    most_bytes: int = MOST_BYTES,
) -> VolumeRead:
    """Decode one volume, in memory if it fits ``budget_bytes``, and digest its files.

    Raises
    ------
    CaseError
        As ``read_slabs`` and ``check_size``; ``voxels_not_finite`` for values that are no finite
        float32.
    """
    voxels = voxels_url(store, url)
    header_inputs = () if voxels == url else (_digest_small(store, url, role),)
    fingerprint = store.fingerprint(voxels)
    header = parse_header(read_start(store, url), form, pair=voxels != url)
    check_size(header, most_bytes)
    small = header.nbytes <= budget_bytes
    folder = None if small else _scratch_folder(scratch)
    dtype = header.dtype.newbyteorder("=")
    target: Any = (
        np.empty(header.grid.shape, header.dtype, order="F")
        if folder is None
        else zarr.create_array(folder, shape=header.grid.shape, chunks=CHUNK, dtype=dtype)
    )
    low, high = np.inf, -np.inf
    with store.open(voxels) as file, DigestingReader(file) as hashed:
        stream = cast(BinaryIO, hashed)
        slabs = (
            read_slabs(stream, header, target_XYZ=target)
            if folder is None
            else read_slabs(stream, header, _chunk_bytes(header))
        )
        for part, values in slabs:
            slab_low, slab_high = float(values.min()), float(values.max())
            if not _are_float32((slab_low, slab_high), header):
                raise CaseError(
                    "voxels_not_finite",
                    found="voxels that are NaN, infinite or beyond the range of float32",
                    wanted="finite numbers",
                    remedy="Replace them, for example by the value of air",
                )
            low, high = min(low, slab_low), max(high, slab_high)
            if folder is not None:
                target[:, :, part] = values
    if folder is None and not header.dtype.isnative:
        target = target.byteswap(inplace=True).view(dtype)
    name = role if voxels == url else f"{role}{VOXELS}"
    digest = InputDigest(name, fingerprint.size, fingerprint.etag, hashed.digest)
    view = StoredView(header, target if folder is None else None, folder, (low, high))
    return VolumeRead(view, (*header_inputs, digest))


def read_labels(
    store: Store, url: str, *, budget_bytes: int
) -> tuple[npt.NDArray[Any], tuple[InputDigest, ...]]:
    """Read a reference mask whose values are whole numbers, shape XYZ, and digest its bytes."""
    with tempfile.TemporaryDirectory(prefix="unet-pipeline-") as scratch:
        read = read_volume(store, url, role="mask", budget_bytes=budget_bytes, scratch=scratch)
        return as_labels(read.view.values()), read.inputs


def as_labels(values_XYZ: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values of a mask as integers."""
    whole = values_XYZ.dtype.kind in "iu"
    return values_XYZ if whole else np.rint(values_XYZ).astype(np.int32)


def _digest_small(store: Store, url: str, role: str) -> InputDigest:
    mark, data = store.fingerprint(url), store.read(url)
    return InputDigest(role, mark.size, mark.etag, digest_bytes(data))


def _chunk_bytes(header: NiftiHeader) -> int:
    """Return the bytes of a slab that fills whole chunks, so that each is written once."""
    x, y, _ = header.grid.shape
    return CHUNK[2] * x * y * header.dtype.itemsize


def _are_float32(stored: tuple[float, float], header: NiftiHeader) -> bool:
    """Say whether the smallest and the largest stored value, once scaled, are finite float32."""
    return all(abs(value * header.slope + header.inter) <= _LARGEST for value in stored)


def _scratch_folder(scratch: str | None) -> str:
    return str(Path(scratch or tempfile.gettempdir()) / f"unet-pipeline-{uuid4().hex}.zarr")
