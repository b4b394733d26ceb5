"""NIfTI-1 and NIfTI-2, ``.nii`` and ``.nii.gz``: headers from the first bytes, voxels as a stream.

The only module that knows nibabel, which parses headers. Voxels are decoded by isal, about twice
as fast as zlib, straight into the array. A header that lies about the size costs nothing: no more
memory is taken than the caller allows, and no more bytes are decoded than the header promises.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Index3
from unet_pipeline.volume.grid import VoxelGrid

HEADER_BYTES = 65_536  # of the stored file; more than enough for a header behind gzip
SUFFIXES = (".nii.gz", ".nii")
GEOMETRY_FIELDS = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_MAGIC_AT = {348: (344, (b"n+1\0",)), 540: (4, (b"n+2\0",))}


@dataclass(frozen=True)
class NiftiHeader:
    """What the pipeline needs of a header; none of its free text.

    Attributes
    ----------
    dtype
        Type of the stored voxels, with byte order.
    slope, inter
        value = stored x slope + inter.
    offset
        First byte of the voxels in the decompressed file.
    version
        1 or 2.
    geometry
        Raw geometry fields, to be written to the label map unchanged.
    """

    grid: VoxelGrid
    dtype: np.dtype[Any]
    slope: float
    inter: float
    offset: int
    version: int
    geometry: dict[str, Any]

    @property
    def is_integer(self) -> bool:
        """Whether every voxel is an integer, as far as the header can tell."""
        scaled = not (float(self.slope).is_integer() and float(self.inter).is_integer())
        return self.dtype.kind in "iu" and not scaled

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels as stored, decompressed."""
        return int(np.prod(self.grid.shape, dtype=object)) * self.dtype.itemsize


def is_nifti(name: str) -> bool:
    """Say whether a file name ends like a single-file NIfTI volume."""
    return name.lower().endswith(SUFFIXES)


def parse_header(first_bytes: bytes) -> NiftiHeader:
    """Parse a header from the first bytes of a file, compressed or not.

    Raises
    ------
    CaseError
        ``file_empty``, ``file_truncated``, ``not_nifti``, ``not_3d`` or ``dtype_unsupported``.
    """
    if not first_bytes:
        raise _broken("file_empty", "a file of 0 bytes")
    data = _decompress_start(first_bytes) if first_bytes[:2] == b"\x1f\x8b" else first_bytes
    header = _nibabel_header(data)
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    grid = VoxelGrid.of(_three_axes(shape), header.get_best_affine())
    if dtype.kind not in "iuf":
        raise CaseError(
            "dtype_unsupported",
            found=f"voxels of type {_dtype_name(dtype)}",
            wanted="one integer or floating-point number per voxel",
            remedy="Convert the volume to a scalar one",
        )
    slope, inter = header.get_slope_inter()
    return NiftiHeader(
        grid=grid,
        dtype=dtype,
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        offset=int(header["vox_offset"]),
        version=2 if isinstance(header, nib.Nifti2Header) else 1,
        geometry={field: header[field].copy() for field in GEOMETRY_FIELDS},
    )


def read_slabs(
    file: BinaryIO, header: NiftiHeader, slab_bytes: int = 64_000_000
) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Decode the voxels of a file as a stream of slabs.

    Parameters
    ----------
    file
        The stored bytes, from the first; read to their end.

    Yields
    ------
    slice, array
        Range of the third axis, and its stored values (not scaled), shape (X, Y, slab).

    Raises
    ------
    CaseError
        ``file_truncated`` or ``file_corrupt``.
    """
    start = file.read(2)
    joined = _Joined(start, file)
    stream: Any = igzip.IGzipFile(fileobj=joined, mode="rb") if start == b"\x1f\x8b" else joined
    x, y, depth = header.grid.shape
    slice_bytes = x * y * header.dtype.itemsize
    step = max(1, slab_bytes // slice_bytes)
    try:
        _skip(stream, header.offset)
        for z in range(0, depth, step):
            part = slice(z, min(z + step, depth))
            flat = np.frombuffer(
                _read_exactly(stream, slice_bytes * (part.stop - z)), dtype=header.dtype
            )
            yield part, flat.reshape((x, y, part.stop - z), order="F")
        while stream.read(1 << 20):  # to the end: gzip checks its sums there
            pass
    except EOFError as error:
        raise _broken("file_truncated", f"a file that ends before its {header.nbytes} bytes of "
                      "voxels") from error  # fmt: skip
    except (gzip.BadGzipFile, IsalError, zlib.error) as error:  # type: ignore[misc]
        raise _broken("file_corrupt", "gzip data that fail their check") from error


def scaled(stored: npt.NDArray[Any], header: NiftiHeader) -> npt.NDArray[np.float32]:
    """Return stored values as float32, by the header's slope and intercept."""
    if (header.slope, header.inter) == (1.0, 0.0):
        return np.asarray(stored, dtype=np.float32)
    values = stored.astype(np.float64) * header.slope + header.inter
    return np.asarray(values, dtype=np.float32)


def encode_labels(labels_XYZ: npt.NDArray[Any], like: NiftiHeader) -> bytes:
    """Return a ``.nii.gz`` file of a label map with the geometry of ``like``, bit for bit.

    The same labels give the same bytes: no time stamp, no free text.
    """
    return igzip.compress(encode_volume(labels_XYZ, like), 1, mtime=0)


def encode_volume(values_XYZ: npt.NDArray[Any], like: NiftiHeader) -> bytes:
    """Return an uncompressed ``.nii`` file of ``values_XYZ`` with the geometry of ``like``."""
    header = nib.Nifti2Header() if like.version == 2 else nib.Nifti1Header()
    header.set_data_shape(values_XYZ.shape)
    header.set_data_dtype(values_XYZ.dtype)
    for field, value in like.geometry.items():
        header[field] = value
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = 544 if like.version == 2 else 352
    header["magic"] = b"n+2" if like.version == 2 else b"n+1"
    file = io.BytesIO()
    header.write_to(file)
    file.write(b"\0" * (int(header["vox_offset"]) - file.tell()))
    file.write(values_XYZ.tobytes(order="F"))
    return file.getvalue()


def header_of(shape: Index3, affine: npt.ArrayLike, dtype: npt.DTypeLike) -> NiftiHeader:
    """Return the header of a new volume: sform and qform from ``affine``, codes 1 (scanner)."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype))
    header.set_sform(np.asarray(affine), code=1)
    header.set_qform(np.asarray(affine), code=1)
    header.set_xyzt_units("mm")
    file = io.BytesIO()
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header.write_to(file)
    return parse_header(file.getvalue())


class _Joined(io.RawIOBase):
    """A file whose first bytes were read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._start or self._rest.read(len(buffer))
        self._start = b""
        buffer[: len(data)] = data
        return len(data)


def _decompress_start(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(data, 8192)
    except zlib.error as error:
        raise _broken("file_corrupt", "gzip data that cannot be read from the start") from error


def _nibabel_header(data: bytes) -> Any:
    if len(data) < 348:
        raise _broken("file_truncated", f"{len(data)} bytes")
    sizes = {int.from_bytes(data[:4], order) for order in ("little", "big")}
    size = next((n for n in (348, 540) if n in sizes), 0)
    at, magics = _MAGIC_AT.get(size, (0, ()))
    if data[at : at + 4] not in magics:
        raise _broken("not_nifti", "a file without the mark of a single-file NIfTI volume")
    kind = nib.Nifti2Header if size == 540 else nib.Nifti1Header
    try:
        header = kind.from_fileobj(io.BytesIO(data), check=False)
        header.get_data_shape(), header.get_data_dtype(), header.get_best_affine()
        header.get_slope_inter()
    except Exception as error:
        raise _broken("not_nifti", "a header with impossible values") from error
    if not int(header["vox_offset"]) >= size:
        header["vox_offset"] = size + 4
    return header


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    spatial, rest = shape[:3], shape[3:]
    if len(spatial) < 3 or any(n != 1 for n in rest) or any(n < 1 for n in spatial):
        raise CaseError(
            "not_3d",
            found=f"a volume of {' x '.join(map(str, shape)) or 'no'} voxels",
            wanted="three axes of at least one voxel",
            remedy="Split the file into 3-D volumes, one per channel",
        )
    return spatial


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "colour" if dtype.names else "complex" if dtype.kind == "c" else dtype.name


def _skip(stream: Any, count: int) -> None:
    while count:
        count -= len(_read_exactly(stream, min(count, 1 << 20)))


def _read_exactly(stream: Any, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        part = stream.read(min(count - len(data), 16_000_000))
        if not part:
            raise EOFError
        data += part
    return data


def _broken(code: str, found: str) -> CaseError:
    return CaseError(
        code, found=found, wanted="a whole NIfTI-1 or NIfTI-2 volume (.nii, .nii.gz)",
        remedy="Replace the file by a sound copy",
    )  # fmt: skip
