"""Parts found slab by slab: by eye, and those of a library that numbers the whole map at once."""

import cc3d
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from unet_pipeline.postprocessing import parts
from unet_pipeline.volume import disk_arrays

maps = arrays(
    np.uint8,
    array_shapes(min_dims=3, max_dims=3, max_side=7),
    elements=st.sampled_from([0, 0, 1, 1, 2, 200]),
)


@pytest.fixture(autouse=True)
def slabs_of_a_slice_or_two(monkeypatch):
    monkeypatch.setattr(disk_arrays, "SLAB_VOXELS", 30)


@given(maps, st.sampled_from([6, 18, 26]))
def test_parts_are_those_of_a_library_that_numbers_the_whole_map(labels_XYZ, connectivity):
    labels_XYZ = np.asfortranarray(labels_XYZ)
    wanted_XYZ, count = cc3d.connected_components(
        labels_XYZ, connectivity=connectivity, return_N=True
    )
    found = parts.parts_of(labels_XYZ, connectivity=connectivity)
    numbers_XYZ = np.zeros(labels_XYZ.shape, int)
    for slab, numbered in found.slabs_with(np.arange(count + 1) > 0):
        numbers_XYZ[..., slab] = numbered
    assert numbers_XYZ.tolist() == wanted_XYZ.tolist()
    assert found.voxels[1:].tolist() == np.bincount(wanted_XYZ.ravel())[1:].tolist()
    for part, box in enumerate(ndimage.find_objects(wanted_XYZ), start=1):
        assert found.group[part] == labels_XYZ[wanted_XYZ == part][0]
        assert found.first[part].tolist() == [side.start for side in box]
        assert found.last[part].tolist() == [side.stop - 1 for side in box]


def test_a_spiral_is_one_part_though_its_numbers_meet_late():
    labels_XYZ = np.zeros((5, 5, 3), np.uint8, order="F")
    labels_XYZ[0, :, 0] = labels_XYZ[4, :, 0] = 1  # two bars, joined two slices further
    labels_XYZ[0, 0, 1] = labels_XYZ[4, 0, 1] = 1
    labels_XYZ[:, 0, 2] = 1
    labels_XYZ[2, 4, 2] = 1  # on its own
    assert parts.parts_of(labels_XYZ).voxels[1:].tolist() == [17, 1]


def test_only_slabs_with_a_chosen_part_are_looked_at_again():
    labels_XYZ = np.zeros((5, 6, 4), np.uint8, order="F")
    labels_XYZ[2, 2, 3] = 7
    found = parts.parts_of(labels_XYZ)
    assert [slab for slab, _ in found.slabs_with(np.array([False, True]))] == [slice(3, 4)]
