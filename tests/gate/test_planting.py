"""The planting tool: each plant changes what it says, and only that. nibabel is the judge."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from planting import FAULTS, Pair, image_of, packed_like, unpacked

SHAPE, AFFINE = (12, 14, 16), np.diag([-1.0, 1.5, 2.0, 1.0])


def volume(array: np.ndarray) -> bytes:
    image = nib.Nifti1Image(array, AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes())


@pytest.fixture(scope="module")
def pair() -> Pair:
    rng = np.random.default_rng(0)
    mask = (rng.random(SHAPE) > 0.8).astype(np.uint8)
    other = nib.Nifti1Image(np.ones((9, 9, 9), np.int16), np.eye(4)).to_bytes()
    image = rng.normal(0, 100, SHAPE).astype(np.int16)
    return Pair(volume(image), volume(mask), gzip.compress(other))


def planted(name: str, pair: Pair) -> Pair:
    (fault,) = [fault for fault in FAULTS if fault.name == name]
    result = fault.plant(pair)
    assert result is not None
    return result


def voxels(data: bytes) -> np.ndarray:
    return np.asanyarray(image_of(data).dataobj)


def test_names_are_unique_and_all_faults_can_be_planted(pair):
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) > 70
    for fault in FAULTS:
        result = fault.plant(pair)
        assert result is not None, fault.name
        if not fault.channels:
            assert (result.image, result.mask) != (pair.image, pair.mask), fault.name


def test_packing_is_undone_by_unpacking():
    assert unpacked(packed_like(b"voxels", gzip.compress(b"x"))) == b"voxels"
    assert packed_like(b"voxels", b"x") == b"voxels"


def test_another_storage_order_keeps_every_voxel_at_its_place(pair):
    mask = image_of(planted("stored permuted and flipped", pair).mask)
    assert mask.shape != SHAPE
    back = nib.as_closest_canonical(mask)
    wanted = nib.as_closest_canonical(image_of(pair.mask))
    assert np.array_equal(np.asanyarray(back.dataobj), np.asanyarray(wanted.dataobj))
    np.testing.assert_allclose(back.affine, wanted.affine, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "affine"),
    [
        ("header mirrored, axis 1", np.diag([1.0, 1.5, 2.0, 1.0])),
        ("spacing x 10, one axis", np.diag([-1.0, 15.0, 2.0, 1.0])),
        ("shifted by 0.5 voxels, axis 3", [*AFFINE[:2], [0, 0, 2.0, 1.0], AFFINE[3]]),
        ("header turned by 180", np.diag([1.0, -1.5, 2.0, 1.0])),
    ],
)
def test_a_header_fault_moves_the_affine_and_no_voxel(pair, name, affine):
    result = planted(name, pair)
    np.testing.assert_allclose(image_of(result.mask).affine, affine)
    assert np.array_equal(voxels(result.mask), voxels(pair.mask))
    assert result.image == pair.image


def test_a_turn_keeps_the_centre_and_the_spacing(pair):
    affine = image_of(planted("turned by 5 degrees", pair).mask).affine
    centre = [*((n - 1) / 2 for n in SHAPE), 1]
    np.testing.assert_allclose(affine @ centre, AFFINE @ centre, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [1.0, 1.5, 2.0], rtol=1e-6)


def test_a_shear_is_of_five_degrees(pair):
    affine = image_of(planted("sheared by 5 degrees", pair).mask).affine
    x, y = affine[:3, 0], affine[:3, 1]
    cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(85, abs=0.1)


def test_forms_are_moved_apart(pair):
    header = image_of(planted("qform moved, two spaces", pair).mask).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 2)
    np.testing.assert_allclose(header.get_qform()[:3, 3] - header.get_sform()[:3, 3], [5, 0, 0])


def test_voxel_faults_leave_the_header_alone(pair):
    fractions = planted("mask of fractions", pair).mask
    np.testing.assert_array_equal(image_of(fractions).affine, AFFINE)
    assert (voxels(fractions) % 1).any()
    broken = planted("one byte of the mask flipped", pair).mask
    sound = planted("no form", pair).mask  # the pair's own bytes, packed anew
    assert len(broken) == pytest.approx(len(sound), abs=20)


def test_cuts_shorten_the_file(pair):
    assert len(planted("image cut to 50%", pair).image) == len(pair.image) // 2
    assert planted("mask of 0 bytes", pair).mask == b""
