from itertools import permutations, product

import numpy as np
import pytest

from unet_pipeline.phantoms import LABELS, MISALIGNED_MM, make_phantom, phantom_cohort, write_cohort
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.formats.nifti_header import HEADER_BYTES, parse_header
from unet_pipeline.volume.grid import VoxelGrid


def centre_mm(phantom, label):
    grid = VoxelGrid.of(phantom.mask_XYZ.shape, phantom.mask_affine)
    return grid.voxel_to_world_mm(np.argwhere(phantom.mask_XYZ == label)).mean(axis=0)


def test_a_seed_decides_a_phantom():
    first, again, other = make_phantom(1), make_phantom(1), make_phantom(2)
    assert np.array_equal(first.image_XYZ, again.image_XYZ)
    assert np.array_equal(first.mask_XYZ, again.mask_XYZ)
    assert not np.array_equal(first.mask_XYZ, other.mask_XYZ)
    assert first.image_XYZ.dtype == np.int16
    assert set(np.unique(first.mask_XYZ)) == set(LABELS)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SRA", "PIR", "ASL"])
@pytest.mark.parametrize("tilt_deg", [0.0, 20.0])
def test_the_organs_lie_at_the_same_place_however_the_file_is_stored(axcodes, tilt_deg):
    upright = make_phantom(3, (40, 40, 40), (2.4, 2.4, 2.4))
    stored = make_phantom(3, (40, 40, 40), (2.4, 2.4, 2.4), axcodes, tilt_deg)
    assert VoxelGrid.of((40, 40, 40), stored.affine).axcodes == axcodes
    for label in (1, 2):
        distance = np.linalg.norm(centre_mm(stored, label) - centre_mm(upright, label))
        assert distance < 0.5


def test_no_mirror_or_axis_swap_maps_a_phantom_onto_itself():
    mask_XYZ = make_phantom(0, (40, 40, 40), (2.4, 2.4, 2.4)).mask_XYZ
    for axes, flips in product(permutations(range(3)), product([1, -1], repeat=3)):
        if axes == (0, 1, 2) and flips == (1, 1, 1):
            continue
        steps = tuple(slice(None, None, flip) for flip in flips)
        other = mask_XYZ.transpose(axes)[steps]
        agree = np.sum((other == mask_XYZ) & (mask_XYZ > 0)) / np.sum(mask_XYZ > 0)
        assert agree < 0.75


def test_a_cohort_is_written_as_files_that_read_back(tmp_path):
    store = Store()
    names = write_cohort(store, str(tmp_path), 5, seed=2, misaligned=True)
    assert names == [f"phantom-{index:02d}" for index in range(1, 6)]
    for name, phantom in phantom_cohort(5, seed=2, misaligned=True):
        mask_url = f"{tmp_path}/masks/{name}.nii.gz"
        mask_XYZ, _ = read_labels(store, mask_url, budget_bytes=10**9)
        assert np.array_equal(mask_XYZ, phantom.mask_XYZ)
        for url, affine in (
            (f"{tmp_path}/images/{name}.nii.gz", phantom.affine),
            (mask_url, phantom.mask_affine),
        ):
            header = parse_header(store.read_range(url, 0, HEADER_BYTES))
            np.testing.assert_allclose(header.grid.affine, affine, atol=1e-4)
        shift = phantom.mask_affine[:3, 3] - phantom.affine[:3, 3]
        np.testing.assert_allclose(shift, MISALIGNED_MM if name == names[-1] else (0, 0, 0))
