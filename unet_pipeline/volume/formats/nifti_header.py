"""NIfTI-1 and NIfTI-2 headers, single files (.nii) and pairs (.hdr and .img), parsed and written.

The only module that knows nibabel. A header needs the first ``HEADER_BYTES`` of a file, compressed
or not; none of its free text leaves this module. Any bytes give a header or a ``CaseError``.
"""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.pointers import pointer_to
from unet_pipeline.tiling.box import Index3
from unet_pipeline.volume.axes import XYZ, Axes, select_axes
from unet_pipeline.volume.formats.nifti_rules import repaired
from unet_pipeline.volume.forms import Form, Forms, Rows, Unit
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import Header

HEADER_BYTES = 4096  # of the stored file: nearly always enough, see ``holds_header``
GEOMETRY_FIELDS = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_MAGIC_AT = {348: 344, 540: 4}
_LONGEST = max(_MAGIC_AT)
_GZIP_MAGIC = b"\x1f\x8b"
_SINGLE, _PAIR = (b"n+1\0", b"n+2\0"), (b"ni1\0", b"ni2\0")
_QUIET = np.errstate(invalid="ignore", over="ignore")  # NaN and inf are for the gate to refuse
_UNITS: dict[int, Unit] = {1: "m", 2: "mm", 3: "um"}


@dataclass(frozen=True)
class NiftiFields:
    """What only NIfTI knows of a volume.

    Attributes
    ----------
    offset
        First byte of the voxels in the decompressed file that holds them.
    version
        1 or 2.
    geometry
        Raw geometry fields, to be written to the label map unchanged.
    """

    offset: int
    version: int
    geometry: dict[str, Any]


def fields_of(header: Header) -> NiftiFields:
    """Return what only NIfTI knows of a volume; of one from elsewhere, what is written of it."""
    known: NiftiFields | None = header.own if isinstance(header.own, NiftiFields) else None
    return known or NiftiFields(352, 1, _geometry_of(header.grid))


def parse_header(
    first_bytes: bytes, form: Form | None = None, *, pair: bool = False, axes: Axes = XYZ
) -> Header:
    """Parse a header from the first bytes of a file, compressed or not.

    Parameters
    ----------
    form
        Which form the grid follows where the header has both. By default the sform, as nibabel.
    pair
        Whether the file is the ``.hdr`` of a pair.
    axes
        What the file may have instead of three axes in space.

    Raises
    ------
    CaseError
        ``file_empty``, ``file_not_fetched``, ``file_truncated``, ``file_corrupt``, ``not_nifti``,
        ``analyze_format``, ``not_3d``, ``volume_outside``, ``dtype_unsupported`` or
        ``qform_invalid``.
    """
    if not first_bytes:
        raise broken("file_empty", "a file of 0 bytes")
    if (pointer := pointer_to(first_bytes)) is not None:
        raise _not_fetched(*pointer)
    data = _decompress_start(first_bytes)
    header = _nibabel_header(data, pair)
    geometry = _fields(header)
    pixdim_mm, repairs = header["pixdim"][1:4].tolist(), repaired(header)
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    forms = _forms(header, pixdim_mm)
    taken = select_axes(shape, axes)
    grid = VoxelGrid.of(taken.spatial, _affine(header, forms, form))
    if dtype.kind not in "iuf":
        raise CaseError(
            "dtype_unsupported",
            found=f"voxels of type {_dtype_name(dtype)}",
            wanted="one integer or floating-point number per voxel",
            remedy="Convert the volume to a scalar one",
        )
    slope, inter = _slope_inter(header)
    version = 2 if isinstance(header, nib.Nifti2Header) else 1
    return Header(
        grid=grid,
        dtype=dtype,
        slope=slope,
        inter=inter,
        forms=forms,
        repairs=repairs,
        volumes=taken.volumes,
        first=taken.first,
        stored=taken.stored,
        flat=taken.flat,
        own=NiftiFields(int(header["vox_offset"]), version, geometry),
    )


def holds_header(first_bytes: bytes) -> bool:
    """Say whether the first bytes of a file hold all of its header.

    They may not where gzip puts names and remarks before the data, or cuts them into small members.

    Raises
    ------
    CaseError
        ``file_corrupt``.
    """
    return len(_decompress_start(first_bytes)) >= _LONGEST


def header_bytes(shape: Index3, dtype: npt.DTypeLike, like: Header, slope: float = 1.0) -> bytes:
    """Return the start of a ``.nii`` file, up to its voxels, with the geometry of ``like``.

    Parameters
    ----------
    slope
        What readers multiply voxels with.
    """
    fields = fields_of(like)
    header = nib.Nifti2Header() if fields.version == 2 else nib.Nifti1Header()
    header.set_data_shape(shape[:2] if like.flat else shape)
    header.set_data_dtype(np.dtype(dtype))
    for field, value in fields.geometry.items():
        header[field] = value
    header["scl_slope"], header["scl_inter"] = slope, 0
    header["vox_offset"] = 544 if fields.version == 2 else 352
    header["magic"] = b"n+2" if fields.version == 2 else b"n+1"
    file = io.BytesIO()
    header.write_to(file)
    file.write(b"\0" * (int(header["vox_offset"]) - file.tell()))
    return file.getvalue()


def _geometry_of(grid: VoxelGrid) -> dict[str, Any]:
    """Return the fields of a grid: sform and qform, codes 1 (scanner).

    A qform cannot hold shear: of a sheared grid it is the nearest rotation, with code 0.
    """
    header = nib.Nifti1Header()
    header.set_data_shape(grid.shape)
    header.set_sform(grid.affine, code=1)
    header.set_qform(grid.affine, code=0 if grid.is_sheared else 1)
    header.set_xyzt_units("mm")
    return _fields(header)


def _fields(header: Any) -> dict[str, Any]:
    return {field: header[field].copy() for field in GEOMETRY_FIELDS}


def broken(code: str, found: str) -> CaseError:
    """Return the error of a file that is no whole volume."""
    return CaseError(
        code, found=found, wanted="a whole NIfTI-1 or NIfTI-2 volume (.nii, .nii.gz, .hdr + .img)",
        remedy="Replace the file by a sound copy",
    )  # fmt: skip


def _decompress_start(data: bytes) -> bytes:
    """Return the start of a file, decompressed if it is gzip, from as many members as it takes."""
    if data[:2] != _GZIP_MAGIC:
        return data
    start = b""
    try:
        while data[:2] == _GZIP_MAGIC and len(start) < _LONGEST:
            member = zlib.decompressobj(31)
            start += member.decompress(data, 8192)
            data = member.unused_data
    except zlib.error as error:
        raise broken("file_corrupt", "gzip data that cannot be read from the start") from error
    return start


def _nibabel_header(data: bytes, pair: bool) -> Any:
    if len(data) < 348:
        raise broken("file_truncated", f"{len(data)} bytes")
    size = next(
        (n for n in (348, 540) if n in {int.from_bytes(data[:4], o) for o in ("little", "big")}), 0
    )
    at = _MAGIC_AT.get(size, 0)
    if not size or data[at : at + 4] not in (_PAIR if pair else _SINGLE):
        raise _without_mark(size, data[at : at + 4], pair)
    kind = nib.Nifti2Header if size == 540 else nib.Nifti1Header
    try:
        # without the extensions that may follow
        header: Any = kind(data[:size], check=False)  # type: ignore[no-untyped-call]
        header.get_data_shape(), header.get_data_dtype()
        offset = int(header["vox_offset"])
    except Exception as error:
        raise broken("not_nifti", "a header with impossible values") from error
    if offset < 0:
        raise broken("not_nifti", f"a header that puts the voxels at byte {offset:,}")
    if not pair and offset < size:
        header["vox_offset"] = size + 4
    return header


def _not_fetched(maker: str, command: str) -> CaseError:
    return CaseError(
        "file_not_fetched",
        found=f"a pointer of {maker} instead of the volume",
        wanted="the file that it stands for",
        remedy=f"Fetch it: {command}",
    )


def _without_mark(size: int, magic: bytes, pair: bool) -> CaseError:
    if pair and size and magic not in _SINGLE:
        return CaseError(
            "analyze_format",
            found="an Analyze 7.5 header, whose orientation is not defined",
            wanted="NIfTI-1 or NIfTI-2",
            remedy="Convert the pair to .nii.gz with a tool that knows how it was stored",
        )
    if magic in _PAIR + _SINGLE and size:
        single = magic in _SINGLE
        found = "single file" if single else "pair"
        ending = ".nii" if single else ".hdr and .img"
        return broken("not_nifti", f"the header of a {found}; its name should end with {ending}")
    return broken("not_nifti", "a file without the mark of a NIfTI volume")


def _slope_inter(header: Any) -> tuple[float, float]:
    """Return slope and intercept; a slope that is 0 or not finite stands for no scaling."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    return slope, inter if np.isfinite(inter) else 0.0


@_QUIET
def _forms(header: Any, pixdim_mm: Sequence[float]) -> Forms:
    q_code, s_code = int(header["qform_code"]), int(header["sform_code"])
    try:
        qform = _rows(header.get_qform()) if q_code > 0 else None
    except Exception:  # nibabel raises several kinds for a quaternion that is none
        qform = None
    x, y, z = pixdim_mm
    return Forms(
        sform=_rows(header.get_sform()) if s_code > 0 else None,
        sform_code=s_code,
        qform=qform,
        qform_code=q_code,
        pixdim_mm=(x, y, z),
        unit=_UNITS.get(int(header["xyzt_units"]) & 7, "unknown"),
    )


@_QUIET
def _affine(header: Any, forms: Forms, wanted: Form | None) -> npt.ArrayLike:
    used: Form | None = forms.used
    if wanted == "qform" and forms.qform is not None:
        used = "qform"
    if used == "qform" and forms.qform is None:
        raise CaseError(
            "qform_invalid",
            found="a qform whose quaternion is no rotation, and no sform",
            wanted="a qform or an sform that says where the voxels lie",
            remedy="Write the file again with the affine of the scanner",
        )
    found = forms.sform if used == "sform" else forms.qform if used == "qform" else None
    affine: npt.ArrayLike = header.get_base_affine() if found is None else found
    return affine


def _rows(affine: npt.NDArray[np.float64]) -> Rows:
    rows = [(float(a), float(b), float(c), float(d)) for a, b, c, d in affine]
    return rows[0], rows[1], rows[2], rows[3]


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "colour" if dtype.names else "complex" if dtype.kind == "c" else dtype.name
