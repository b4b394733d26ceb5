"""Bring a case's voxels to where tiles can read them: in memory while they fit, else in scratch.

gzip cannot be sought, so a file is decoded once, as a stream. Volumes within the budget stay in
memory as stored; larger ones go to a chunked Zarr array in a scratch folder that all workers see.
"""

import hashlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import zarr

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.ledger import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.nifti import HEADER_BYTES, NiftiHeader, parse_header, read_slabs, scaled
from unet_pipeline.volume.preprocessing import Prepared, Step, prepare
from unet_pipeline.volume.views import View, Voxels, materialised

CHUNK = (128, 128, 32)


@dataclass(frozen=True)
class StoredView:
    """A file's voxels as stored, in memory or in scratch; read with slope and intercept.

    Attributes
    ----------
    values_XYZ
        Stored values, or None if they are in ``scratch``.
    scratch
        Folder of a Zarr array of stored values.
    """

    header: NiftiHeader
    values_XYZ: npt.NDArray[Any] | None
    scratch: str | None = None
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
    """

    native: Stacked
    model: View
    prepared: Prepared
    header: NiftiHeader
    inputs: tuple[InputDigest, ...]


def stage(
    store: Store,
    urls: Sequence[str],
    steps: Sequence[Step],
    *,
    budget_bytes: int,
    scratch: str | None = None,
) -> Staged:
    """Decode the channels of a case, measure what the steps need, and make the model view.

    Parameters
    ----------
    budget_bytes
        What may be held in memory of the stored voxels, and again of the preprocessed ones.
    scratch
        Folder for volumes over the budget. Default: the system's folder for temporary files.
    """
    read = [
        read_volume(
            store, url, role=f"image{i}", budget_bytes=budget_bytes // len(urls), scratch=scratch
        )
        for i, url in enumerate(urls)
    ]
    native = Stacked(tuple(view for view, _ in read))
    header = read[0][0].header
    prepared = prepare(steps, native, header.grid)
    model = prepared.forward(native)
    if 4 * model.channels * int(np.prod(model.shape)) <= budget_bytes:
        model = materialised(model)
    return Staged(native, model, prepared, header, tuple(digest for _, digest in read))


def read_header(store: Store, url: str) -> NiftiHeader:
    """Read a header by one range request, and hold its claims against the size of the file.

    Raises
    ------
    CaseError
        As ``parse_header``; ``file_truncated`` if the file cannot hold the voxels it claims.
    """
    header = parse_header(store.read_range(url, 0, HEADER_BYTES))
    size = store.fingerprint(url).size
    gzipped = url.lower().endswith(".gz")
    possible = size * 1032 if gzipped else size  # deflate cannot shrink further than 1032 : 1
    if header.offset + header.nbytes > possible:
        raise CaseError(
            "file_truncated",
            found=f"a file of {size:,} bytes whose header claims {header.nbytes:,} bytes of voxels",
            wanted="a file that holds all its voxels",
            remedy="Replace the file by a sound copy",
        )
    return header


def read_volume(
    store: Store, url: str, *, role: str, budget_bytes: int, scratch: str | None = None
) -> tuple[StoredView, InputDigest]:
    """Decode one file, in memory if it fits ``budget_bytes``, and digest its bytes.

    Raises
    ------
    CaseError
        As ``read_slabs``; ``voxels_not_finite`` for NaN or infinite values.
    """
    fingerprint = store.fingerprint(url)
    header = parse_header(store.read_range(url, 0, HEADER_BYTES))
    small = header.nbytes <= budget_bytes
    folder = None if small else _scratch_folder(scratch)
    dtype = header.dtype.newbyteorder("=")
    target: Any = (
        np.empty(header.grid.shape, dtype, order="F")
        if folder is None
        else zarr.create_array(folder, shape=header.grid.shape, chunks=CHUNK, dtype=dtype)
    )
    with store.open(url) as file:
        hashed = _Hashing(file)
        for part, values in read_slabs(cast(BinaryIO, hashed), header):
            if dtype.kind == "f" and not np.isfinite(values).all():
                raise CaseError(
                    "voxels_not_finite",
                    found="voxels that are NaN or infinite",
                    wanted="finite numbers",
                    remedy="Replace them, for example by the value of air",
                )
            target[:, :, part] = values
    digest = InputDigest(role, fingerprint.size, fingerprint.etag, hashed.digest)
    return StoredView(header, target if folder is None else None, folder), digest


def read_labels(
    store: Store, url: str, *, budget_bytes: int
) -> tuple[npt.NDArray[Any], InputDigest]:
    """Read a reference mask whose values are whole numbers, shape XYZ, and digest its bytes."""
    view, digest = read_volume(store, url, role="mask", budget_bytes=budget_bytes)
    whole = Box.whole(view.shape)
    if view.header.dtype.kind in "iu" and (view.header.slope, view.header.inter) == (1.0, 0.0):
        return view.stored(whole), digest
    return np.rint(view.read(whole)[0]).astype(np.int32), digest


def _scratch_folder(scratch: str | None) -> str:
    return str(Path(scratch or tempfile.gettempdir()) / f"unet-pipeline-{uuid4().hex}.zarr")


class _Hashing(io.RawIOBase):
    """A file that digests what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(len(buffer))
        self._hash.update(data)
        buffer[: len(data)] = data
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
