"""nibabel is the oracle for what a file says; broken files must be named, never crash."""

import gzip
import io
import os
import zlib

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_header import parse_header
from unet_pipeline.volume.formats.nifti_voxels import (
    MEMBER_BYTES,
    encode_labels,
    encode_volume,
    read_slabs,
)
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import header_of
from unet_pipeline.volume.probe import probe_header

AFFINE = np.array([[-1.5, 0.1, 0, 20], [0.1, 1.5, 0, -3], [0, 0, 3, 7], [0, 0, 0, 1.0]])


def nifti_bytes(values, kind=nib.Nifti1Image, slope=None, inter=None, endian="<") -> bytes:
    image = kind(values, AFFINE, header=kind.header_class(endianness=endian))
    image.header.set_data_dtype(values.dtype)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    return image.to_bytes()


def decode(data: bytes, slab_bytes: int = 64_000_000) -> np.ndarray:
    header = parse_header(data[:65536])
    out = np.empty(header.grid.shape, np.float32)
    for part, values in read_slabs(io.BytesIO(data), header, slab_bytes):
        out[:, :, part] = header.scaled(values)
    return out


def reference(data: bytes, kind=nib.Nifti1Image) -> np.ndarray:
    return np.asarray(kind.from_bytes(data).dataobj, dtype=np.float32)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxels_are_those_of_nibabel(dtype, endian, kind):
    values = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    data = nifti_bytes(values, kind, endian=endian)
    for stored in (data, gzip.compress(data)):
        np.testing.assert_array_equal(decode(stored, slab_bytes=50), reference(data, kind))


def test_slope_and_intercept_are_applied():
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    data = nifti_bytes(values, slope=0.25, inter=-1000)
    np.testing.assert_allclose(decode(data), reference(data), rtol=1e-6)


def test_a_file_of_several_gzip_members_is_read_whole():
    data = nifti_bytes(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    joined = gzip.compress(data[:400]) + gzip.compress(data[400:])
    np.testing.assert_array_equal(decode(joined), reference(data))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("qcode", "scode"), [(1, 0), (0, 2), (1, 1), (0, 0), (3, 4)])
def test_a_label_map_has_the_geometry_of_its_image(kind, qcode, scode):
    image = kind(np.zeros((3, 4, 5), np.int16), AFFINE)
    image.set_qform(AFFINE, qcode)
    image.set_sform(AFFINE, scode)
    image.header["descrip"] = b"Jane Doe"
    header = parse_header(image.to_bytes())
    labels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    written = kind.from_bytes(gzip.decompress(encode_labels(labels, header)))
    np.testing.assert_array_equal(written.dataobj, labels)
    np.testing.assert_array_equal(written.affine, kind.from_bytes(image.to_bytes()).affine)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (qcode, scode)
    assert written.get_data_dtype() == np.uint8
    assert b"Jane" not in gzip.decompress(encode_labels(labels, header))


def test_the_same_labels_give_the_same_bytes():
    header = header_of((3, 4, 5), AFFINE, np.uint8)
    labels = np.ones((3, 4, 5), np.uint8)
    assert encode_labels(labels, header) == encode_labels(np.asfortranarray(labels), header)


def member_sizes(data: bytes) -> list[int]:
    """Decompressed bytes of each gzip member, by zlib."""
    sizes = []
    while data:
        member = zlib.decompressobj(31)
        sizes.append(len(member.decompress(data)))
        data = member.unused_data
    return sizes


def test_a_small_label_map_is_one_member():
    labels = np.ones((8, 8, 8), np.uint8)
    data = encode_labels(labels, header_of(labels.shape, AFFINE, np.uint8))
    assert member_sizes(data) == [352 + 512]


def test_a_large_label_map_is_members_of_one_size_that_others_read(tmp_path):
    labels = np.random.default_rng(0).integers(0, 9, (300, 300, 100)).astype(np.uint8).repeat(2, 2)
    header = header_of(labels.shape, AFFINE, np.uint8)
    data = encode_labels(labels, header)
    assert member_sizes(data) == [352 + MEMBER_BYTES, labels.size - MEMBER_BYTES]
    assert gzip.decompress(data) == encode_volume(labels, header)
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(data)
    np.testing.assert_array_equal(nib.load(path).dataobj, labels)
    np.testing.assert_array_equal(decode(data), labels)
    grid = probe_header(Store(), str(path)).header.grid
    assert grid == VoxelGrid.of(header.grid.shape, header.grid.affine.astype(np.float32))


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_the_bytes_do_not_depend_on_the_machine(monkeypatch, cores):
    labels = np.random.default_rng(1).integers(0, 2, (512, 512, 70)).astype(np.uint8)
    header = header_of(labels.shape, AFFINE, np.uint8)
    expected = encode_labels(labels, header)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert encode_labels(np.asfortranarray(labels), header) == expected


@pytest.mark.parametrize("endian", ["<", ">"])
def test_voxels_are_decoded_into_an_array(endian):
    values = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    data = nifti_bytes(values, endian=endian)
    header = parse_header(data)
    target = np.empty(values.shape, header.dtype, order="F")
    parts = list(read_slabs(io.BytesIO(data), header, 50, target))
    assert all(np.shares_memory(slab, target) for _, slab in parts)
    np.testing.assert_array_equal(target, values)


SOUND = nifti_bytes(np.ones((8, 8, 8), np.int16))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "file_empty"),
        (SOUND[:100], "file_truncated"),
        (b"P6 this is a picture" * 40, "not_nifti"),
        (gzip.compress(SOUND, mtime=0)[:40], "file_truncated"),
        (b"\x1f\x8b not gzip at all", "file_corrupt"),
        (nifti_bytes(np.ones((4, 4, 4, 3), np.int16)), "not_3d"),
        (nifti_bytes(np.ones((4, 4), np.int16)), "not_3d"),
        (nifti_bytes(np.ones((4, 4, 4), np.complex64)), "dtype_unsupported"),
    ],
)
def test_a_header_that_cannot_be_used_is_named(data, code):
    with pytest.raises(CaseError) as caught:
        parse_header(data)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (SOUND[:-10], "file_truncated"),
        (gzip.compress(SOUND, mtime=0)[:-12], "file_truncated"),
        (gzip.compress(SOUND, mtime=0)[:-8] + b"\0" * 8, "file_corrupt"),
        (gzip.compress(SOUND, mtime=0) + b"garbage", "file_truncated"),
    ],
)
def test_voxels_that_cannot_be_read_are_named(data, code):
    with pytest.raises(CaseError) as caught:
        decode(data)
    assert caught.value.code == code


def test_a_volume_of_one_more_axis_of_length_one_is_a_volume():
    data = nifti_bytes(np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1))
    assert decode(data).shape == (3, 4, 5)


def test_a_new_volume_can_be_read_back():
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    data = encode_volume(values, header_of(values.shape, AFFINE, values.dtype))
    np.testing.assert_array_equal(decode(data), values)
    np.testing.assert_allclose(nib.Nifti1Image.from_bytes(data).affine, AFFINE, atol=1e-6)
