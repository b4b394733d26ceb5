"""Whatever the bytes are: a volume or a CaseError, in bounded time and memory, nothing else."""

import gzip
import io
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.fileholders import FileHolder

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.formats import voxel_files
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.formats.nifti_header import HEADER_BYTES, parse_header
from unet_pipeline.volume.formats.nifti_voxels import TRAILING_BYTES, check_whole
from unet_pipeline.volume.probe import probe_header

VALUES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
SINGLE = {
    ".nii": nib.Nifti1Image(VALUES, np.eye(4)).to_bytes(),
    ".nii2": nib.Nifti2Image(VALUES, np.eye(4)).to_bytes(),
}
NUMBERS = set(nib.Nifti2Header.template_dtype.names) - {
    "magic", "descrip", "aux_file", "intent_name", "eol_check", "unused_str",
}  # fmt: skip
FIELDS = sorted(NUMBERS & set(nib.Nifti1Header.template_dtype.names))
ODD_NUMBERS = [np.nan, np.inf, -np.inf, -1e30, -3, -1, 0, 0.5, 1, 2, 100, 1e30]

few = settings(
    max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, Path]:
    """One sound volume of each kind, by the header's file."""
    for name, kind in (("p1", nib.Nifti1Pair), ("p2", nib.Nifti2Pair)):
        nib.save(kind(VALUES, np.eye(4)), tmp_path / f"{name}.img")
    (tmp_path / "s1.nii").write_bytes(SINGLE[".nii"])
    (tmp_path / "s2.nii").write_bytes(SINGLE[".nii2"])
    return {path.name: path for path in tmp_path.iterdir() if path.suffix != ".img"}


def is_read_or_named(path: Path, scratch: Path, form=None) -> None:
    """The header and the voxels of a file are read, or a CaseError says why not."""
    with suppress(CaseError):
        probe_header(Store(), str(path), form)
        for budget in (10**6, 10):  # in memory, in scratch
            read = read_volume(
                Store(), str(path), role="image0", budget_bytes=budget, scratch=str(scratch)
            )
            assert np.isfinite(read.view.read(Box.whole(read.view.shape))).all()


def header_size(name: str) -> int:
    return 540 if "2" in name else 348


@few
@given(
    name=st.sampled_from(["s1.nii", "s2.nii", "p1.hdr", "p2.hdr"]),
    field=st.sampled_from(FIELDS),
    number=st.sampled_from(ODD_NUMBERS),
    form=st.sampled_from([None, "sform", "qform"]),
)
def test_any_number_in_any_field(volumes, tmp_path, name, field, number, form):
    path, size = volumes[name], header_size(name)
    whole = path.read_bytes()
    kind = nib.Nifti2Header if size == 540 else nib.Nifti1Header
    header = kind(whole[:size], check=False)
    dtype = header.structarr.dtype[field]
    if dtype.base.kind in "iu":
        limits = np.iinfo(dtype.base)
        number = int(np.clip(np.nan_to_num(number), limits.min, limits.max))
    header[field] = np.full(dtype.shape, number).astype(dtype.base)
    path.write_bytes(header.binaryblock + whole[size:])
    try:
        is_read_or_named(path, tmp_path, form)
    finally:
        path.write_bytes(whole)


@few
@given(
    name=st.sampled_from(["s1.nii", "s2.nii", "p1.hdr", "p2.hdr"]),
    at=st.integers(0, 347),
    data=st.binary(min_size=1, max_size=8),
)
def test_any_bytes_anywhere_in_a_header(volumes, tmp_path, name, at, data):
    path = volumes[name]
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    try:
        is_read_or_named(path, tmp_path)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("offset", [-5, -(2**62), np.nan, np.inf])
@pytest.mark.parametrize("name", ["s1.nii", "p1.hdr"])
def test_voxels_cannot_begin_before_the_file(volumes, name, offset):
    whole = volumes[name].read_bytes()
    header = nib.Nifti1Header(whole[:348], check=False)
    header["vox_offset"] = offset
    volumes[name].write_bytes(header.binaryblock + whole[348:])
    with pytest.raises(CaseError) as caught:
        probe_header(Store(), str(volumes[name]))
    assert caught.value.code == "not_nifti"


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_cut_at_any_byte_is_refused(tmp_path, kind, pack):
    whole = pack(kind(VALUES, np.eye(4)).to_bytes())
    for length in range(0, len(whole), 7):
        path = tmp_path / "x.nii.gz"
        path.write_bytes(whole[:length])
        with pytest.raises(CaseError) as caught:
            probe_header(Store(), str(path))
        assert caught.value.code in {"file_empty", "file_truncated", "not_nifti"}


def gzip_with(flags: int, fields: bytes, data: bytes) -> bytes:
    """A gzip file with optional fields in its head (RFC 1952, 2.3)."""
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(data) + deflate.flush()
    head = b"\x1f\x8b\x08" + bytes([flags]) + b"\0" * 6 + fields
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


PLAIN = SINGLE[".nii"]
SOUND_GZIP = {
    "a long extra field": gzip_with(4, struct.pack("<H", 60_000) + b"x" * 60_000, PLAIN),
    "a long name": gzip_with(8, b"n" * 5000 + b"\0", PLAIN),
    "an empty member first": gzip.compress(b"") + gzip.compress(PLAIN),
    "a header in two members": gzip.compress(PLAIN[:100]) + gzip.compress(PLAIN[100:]),
    "members of 7 bytes": b"".join(
        gzip.compress(PLAIN[i : i + 7]) for i in range(0, len(PLAIN), 7)
    ),
    "not compressed": gzip.compress(PLAIN, 0),
    "zeros behind": gzip.compress(PLAIN) + b"\0" * 512,
}


@pytest.mark.parametrize("kind", SOUND_GZIP)
def test_odd_gzip_files_that_are_sound(tmp_path, kind):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(SOUND_GZIP[kind])
    oracle = nib.load(path)
    assert probe_header(Store(), str(path)).header.grid.shape == oracle.shape
    read = read_volume(Store(), str(path), role="image0", budget_bytes=10**6)
    np.testing.assert_array_equal(read.view.values(), oracle.dataobj)


def test_a_header_that_needs_a_second_read_is_counted_with_it(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(SOUND_GZIP["a long extra field"])
    assert probe_header(Store(), str(path)).bytes_read == path.stat().st_size + 4


def test_a_slice_of_a_gigabyte_is_checked_in_bounded_memory(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((30_000, 30_000, 1))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    zeros = gzip.compress(b"\0" * 50_000_000)
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 4) + zeros * 18)
    tracemalloc.start()
    probe_header(Store(), str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


@pytest.mark.parametrize(
    ("dtype", "value", "slope"),
    [("f4", np.nan, 1), ("f4", -np.inf, 1), ("f8", 1e300, 1), ("i2", 3000, 1e38)],
)
def test_values_that_are_no_finite_float32_are_refused(tmp_path, dtype, value, slope):
    values = np.ones((4, 5, 6), dtype)
    values[2, 3, 4] = value
    image = nib.Nifti1Image(values, np.eye(4))
    data = bytearray(image.to_bytes())
    data[112:116] = struct.pack("<f", slope)  # scl_slope
    path = tmp_path / "x.nii"
    path.write_bytes(data)
    with pytest.raises(CaseError) as caught:
        read_volume(Store(), str(path), role="image0", budget_bytes=10**6)
    assert caught.value.code == "voxels_not_finite"


def there(path: Path) -> list[str]:
    """The files of a volume."""
    return [file for file in {str(path), *voxel_files(str(path))} if Path(file).exists()]


def as_nibabel(path: Path, version: int):
    """Load a volume; nibabel must be told of a pair of which one file alone is compressed."""
    voxels = [file for file in there(path) if file != str(path)]
    if not voxels:
        return nib.load(path)
    kind = nib.Nifti2Pair if version == 2 else nib.Nifti1Pair
    files = {"header": FileHolder(path), "image": FileHolder(voxels[0])}
    return kind.from_file_map(files)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        (
            "odd_headers",
            {"not_3d", "dtype_unsupported", "pair_incomplete"}
            | {"file_truncated"}  # boldref.nii has no voxels
            | {"voxels_not_finite"},  # resampled_anat_moved.nii has 153 NaN
        ),
        ("broken", {"file_empty", "not_nifti"}),
    ],
)
def test_every_odd_real_file_is_read_as_nibabel_does_or_named(
    shared_data, folder, expected, tmp_path
):
    files = sorted(path for path in (shared_data / folder).iterdir() if path.is_file())
    codes = set()
    for path in files:
        try:
            read = read_volume(
                Store(), str(path), role="image0", budget_bytes=10**7, scratch=str(tmp_path)
            )
        except CaseError as error:
            codes.add(error.code)
            continue
        image = as_nibabel(path, read.view.header.own.version)
        oracle = np.asarray(image.dataobj, np.float32).reshape(read.view.shape)
        found = read.view.read(Box.whole(read.view.shape))[0]
        np.testing.assert_allclose(found, oracle, rtol=1e-6, err_msg=path.name)
    assert codes == expected


def test_no_more_is_read_than_the_file_holds(shared_data):
    """A probe asks for its first bytes, its last four and, at most once, for the whole file."""
    bounded = 0
    for path in sorted((shared_data / "odd_headers").iterdir()):
        try:
            probe = probe_header(Store(), str(path))
        except CaseError:
            continue
        stored = sum(Path(file).stat().st_size for file in there(path))
        assert probe.bytes_read <= HEADER_BYTES + 4 + stored
        bounded += probe.bytes_read <= HEADER_BYTES + 4
    assert bounded > 20


def test_a_stream_of_zeros_without_end_is_left():
    """Decoding stops soon after what the header promises, however long the stream is."""
    endless = _Endless(PLAIN)
    header = parse_header(PLAIN)
    with pytest.raises(CaseError) as caught:
        check_whole(endless, header)
    assert caught.value.code == "file_trailing_data"
    assert endless.given < 2 * TRAILING_BYTES


class _Endless(io.RawIOBase):
    """A file that never ends."""

    def __init__(self, start: bytes) -> None:
        self.start, self.given = io.BytesIO(start), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self.start.read(len(buffer)) or bytes(len(buffer))
        buffer[: len(data)] = data
        self.given += len(data)
        return len(data)
