"""Headers by range request, held against the size of the file; pairs; files that lie."""

import gzip
from time import perf_counter

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.formats import nifti_voxels as nifti
from unet_pipeline.volume.formats.nifti_header import HEADER_BYTES
from unet_pipeline.volume.probe import probe_header

VALUES = np.random.default_rng(0).integers(0, 500, (20, 21, 22)).astype(np.int16)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.fixture
def place(tmp_path):
    return tmp_path


def write(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def refused(url: str) -> str:
    with pytest.raises(CaseError) as caught:
        probe_header(Store(), url)
    return caught.value.code


def plain() -> bytes:
    return nib.Nifti1Image(VALUES, AFFINE).to_bytes()


def test_voxels_that_begin_far_behind_the_header_are_refused_before_any_is_skipped(tmp_path):
    header = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).header.copy()
    header["vox_offset"], header["magic"] = 2e10, b"n+1"
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock) + gzip.compress(bytes(30 * 10**6), 9) * 700)
    begin = perf_counter()
    with pytest.raises(CaseError) as caught:
        probe_header(Store(), str(path))
    assert caught.value.code == "voxels_too_far"
    assert perf_counter() - begin < 5


def test_a_header_costs_its_first_bytes_and_four_at_the_end(place):
    url = write(place / "x.nii.gz", gzip.compress(plain()))
    probe = probe_header(Store(), url)
    assert probe.header.grid.shape == VALUES.shape
    assert probe.bytes_read == HEADER_BYTES + 4
    assert probe_header(Store(), write(place / "x.nii", plain())).bytes_read == HEADER_BYTES


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_a_file_cut_short_is_found_without_its_voxels_being_kept(place, share):
    whole = plain()
    assert refused(write(place / "x.nii", whole[: int(share * len(whole))])) == "file_truncated"
    packed = gzip.compress(whole)
    assert (
        refused(write(place / "x.nii.gz", packed[: int(share * len(packed))])) == "file_truncated"
    )


def test_a_file_of_several_gzip_members_is_sound_but_read_whole(place):
    data = plain()
    url = write(place / "x.nii.gz", gzip.compress(data[:9000]) + gzip.compress(data[9000:]))
    probe = probe_header(Store(), url)
    assert probe.bytes_read > (place / "x.nii.gz").stat().st_size


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_claims_more_than_a_file_can_hold(place, kind, pack):
    header = kind()
    header.set_data_dtype(np.int16)
    n = 10_000 if kind is nib.Nifti1Header else 2**40
    header["dim"][:4] = [3, n, n, n]
    header["pixdim"][1:4] = 1
    header["vox_offset"], header["magic"] = 544, b"n+1" if n == 10_000 else b"n+2"
    url = write(place / "x.nii.gz", pack(header.binaryblock + b"\0" * 2000))
    assert refused(url) == "file_truncated"


def test_bytes_without_end_after_the_voxels_are_refused(place, monkeypatch):
    monkeypatch.setattr(nifti, "TRAILING_BYTES", 2**21)
    few = write(place / "few.nii.gz", gzip.compress(plain() + b"\0" * 2**20))
    assert probe_header(Store(), few).header.grid.shape == VALUES.shape
    assert refused(write(place / "x.nii.gz", gzip.compress(plain() + b"\0" * 2**23))) == (
        "file_trailing_data"
    )


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("suffix", [".img", ".img.gz"])
def test_a_pair_is_read_as_nibabel_does(place, kind, suffix):
    nib.save(kind(VALUES, AFFINE), place / f"x{suffix}")
    url = str(next(place.glob("x.hdr*")))
    read = read_volume(Store(), url, role="image0", budget_bytes=10**9)
    np.testing.assert_array_equal(read.view.values(), VALUES)
    assert [digest.role for digest in read.inputs] == ["image0", "image0.voxels"]
    assert read.view.value_range == (VALUES.min(), VALUES.max())
    assert probe_header(Store(), url).header.grid.shape == VALUES.shape


def test_a_pair_without_its_partner(place):
    nib.save(nib.Nifti1Pair(VALUES, AFFINE), place / "x.img")
    (place / "x.img").rename(place / "y.img")
    assert refused(str(place / "x.hdr")) == "pair_incomplete"
    assert refused(str(place / "y.img")) == "pair_incomplete"


def test_the_partner_may_be_stored_otherwise_or_in_capitals(place):
    nib.save(nib.Nifti1Pair(VALUES, AFFINE), place / "x.img")
    voxels, header = (place / "x.img").read_bytes(), (place / "x.hdr").read_bytes()
    for name, partner, pack in [
        ("a.hdr", "a.img.gz", gzip.compress),
        ("b.HDR", "b.IMG", bytes),
        ("c.HDR.GZ", "c.IMG.GZ", gzip.compress),
        ("d.hdr.gz", "d.img", bytes),
    ]:
        packed = gzip.compress(header) if name.lower().endswith(".gz") else header
        write(place / partner, pack(voxels))
        read = read_volume(Store(), write(place / name, packed), role="image0", budget_bytes=10**9)
        np.testing.assert_array_equal(read.view.values(), VALUES)


def test_a_pair_whose_voxels_are_cut_short(place):
    for suffix in (".img", ".img.gz"):
        nib.save(nib.Nifti1Pair(VALUES, AFFINE), place / f"x{suffix}")
        voxels = place / f"x{suffix}"
        voxels.write_bytes(voxels.read_bytes()[:-100])
        assert refused(str(next(place.glob("x.hdr*")))) == "file_truncated"
        for path in place.glob("x.*"):
            path.unlink()


def test_a_header_under_the_name_of_the_other_kind(place):
    nib.save(nib.Nifti1Pair(VALUES, AFFINE), place / "x.img")
    assert refused(write(place / "x.nii", (place / "x.hdr").read_bytes())) == "not_nifti"
    assert refused(write(place / "x.hdr", plain())) == "not_nifti"


def test_a_quaternion_that_is_none_costs_only_the_qform(place):
    image = nib.Nifti1Image(VALUES, AFFINE)
    image.set_qform(AFFINE, 1)
    data = bytearray(image.to_bytes())
    data[256:260] = np.float32(2).tobytes()  # quatern_b
    forms = probe_header(Store(), write(place / "x.nii", data)).header.forms
    assert (forms.qform, forms.qform_code, forms.used) == (None, 1, "sform")
    data[254:256] = b"\0\0"  # sform_code
    assert refused(write(place / "y.nii", data)) == "qform_invalid"


def test_an_analyze_header_has_no_orientation(place):
    nib.save(nib.AnalyzeImage(VALUES, AFFINE), place / "x.img")
    assert refused(str(place / "x.hdr")) == "analyze_format"


def test_the_form_can_be_chosen(place):
    image = nib.Nifti1Image(VALUES, AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] = 7
    image.set_qform(moved, 1)
    url = write(place / "x.nii", image.to_bytes())
    store = Store()
    assert probe_header(store, url).header.grid.affine[0, 3] == 0
    assert probe_header(store, url, "sform").header.grid.affine[0, 3] == 0
    assert probe_header(store, url, "qform").header.grid.affine[0, 3] == 7


def test_every_odd_and_broken_file_is_read_or_named(shared_data):
    """What must be refused is refused with a code, and nothing else is ever raised."""
    files = [*(shared_data / "odd_headers").iterdir(), *(shared_data / "broken").iterdir()]
    codes = {}
    for path in sorted(files):
        try:
            probe = probe_header(Store(), str(path))
            oracle = nib.load(path)
            assert probe.header.grid.shape == oracle.shape[:3]
            np.testing.assert_allclose(probe.header.grid.affine, oracle.affine, atol=1e-5)
        except CaseError as error:
            codes[path.name] = error.code
    assert len(codes) < 40 < len(files)
    assert codes["not-nifti.nii"] == "not_nifti"
    assert codes["example_rgb.nii.gz"] == "dtype_unsupported"
    assert codes["5D_small.nii"] == codes["functional.nii"] == "not_3d"
    assert codes["analyze.hdr"] == codes["nifti1.hdr"] == "pair_incomplete"
    assert {codes[p.name] for p in files if p.name.startswith("zero_bytes")} == {"file_empty"}
