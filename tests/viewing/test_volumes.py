"""Volumes of any kind are sent as NIfTI that a browser reads: one volume, plain numbers."""

import io

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.store import Store
from unet_pipeline.viewing.volumes import IMAGE, LABELS, stream_of, volumes_of
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

AFFINE = np.array([[0, -2.0, 0, 9], [1.5, 0, 0, -4], [0, 0, 3.0, 1], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).normal(100, 40, (7, 6, 20, 3))


def sent(url, kind=IMAGE, volume=0):
    stream = stream_of(Store(), str(url), kind, volume)
    data = b"".join(stream.pieces())
    assert len(data) == stream.size
    return nib.Nifti1Image.from_stream(io.BytesIO(data))


@pytest.mark.parametrize("dtype", ["u1", ">i2", "i4", "f4", "f8", "u8"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.img"])
def test_one_volume_of_several_and_numbers_that_browsers_take(tmp_path, dtype, name):
    kind = nib.Nifti1Pair if name.endswith("img") else nib.Nifti1Image
    values = VALUES.astype(dtype)
    kind(values, AFFINE, dtype=dtype).to_filename(tmp_path / name)
    url = tmp_path / name.replace(".img", ".hdr")
    assert volumes_of(Store(), str(url)) == 3
    for volume in range(3):
        image = sent(url, volume=volume)
        assert image.get_data_dtype().newbyteorder("=") in ("u1", "i2", "i4", "f4")
        found = np.asanyarray(image.dataobj)
        assert np.allclose(found, values[..., volume], rtol=1e-6)
        assert np.array_equal(image.affine, AFFINE)


def test_values_are_as_the_header_scales_them(tmp_path):
    image = nib.Nifti1Image(VALUES[..., 0], AFFINE, dtype="i2")
    image.header.set_slope_inter(0.5, -20)
    image.to_filename(tmp_path / "a.nii.gz")
    found = sent(tmp_path / "a.nii.gz").get_fdata()
    assert np.allclose(found, nib.load(tmp_path / "a.nii.gz").get_fdata(), atol=1e-4)


def test_a_label_map_of_several_gzip_members(tmp_path):
    """Browsers unpack the first one alone."""
    labels_XYZ = (np.arange(300 * 300 * 200) % 7).astype(np.uint8).reshape(300, 300, 200)
    data = encode_labels(labels_XYZ, header_of(labels_XYZ.shape, AFFINE, np.uint8))
    (tmp_path / "a_dseg.nii.gz").write_bytes(data)
    assert data.count(b"\x1f\x8b\x08") > 1
    assert np.array_equal(
        np.asanyarray(sent(tmp_path / "a_dseg.nii.gz", LABELS).dataobj), labels_XYZ
    )


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    nib.Nifti1Image(VALUES[..., 0], AFFINE).to_filename(tmp_path / "a.nii")
    whole = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CaseError) as raised:
        sent(tmp_path / "a.nii")
    assert raised.value.code == "file_truncated"
