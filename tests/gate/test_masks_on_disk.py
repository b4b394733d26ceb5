"""A reference mask over the memory of a case is read, looked at and handed on as any other."""

import pickle

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.inspect import look_at_mask, read_mask, read_reference
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.records import Part
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.store import Store
from unet_pipeline.volume import disk_arrays, kept
from unet_pipeline.volume.disk_arrays import Room, is_mapped
from unet_pipeline.volume.grid import VoxelGrid

PHANTOM = make_phantom(5, shape=(30, 26, 22), spacing_mm=(2.2, 2.2, 3.0))
GRID = VoxelGrid.of(PHANTOM.image_XYZ.shape, PHANTOM.affine)
SHIFTED = PHANTOM.affine + np.outer([0.4, 0.6, 0.1, 0], [0, 0, 0, 1])


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    monkeypatch.setattr(disk_arrays, "SLAB_VOXELS", 2000)
    monkeypatch.setattr(disk_arrays, "_BLOCK", 8)
    monkeypatch.setattr(kept, "CHUNK", (16, 8, 4))
    monkeypatch.setattr(kept, "_BOX_VOXELS", 3000)


def as_it_is(path, values):
    nib.save(nib.Nifti1Image(values, PHANTOM.affine), path)


def in_steps(path, values):
    image = nib.Nifti1Image(values.astype(np.float32), PHANTOM.affine)
    image.header.set_data_dtype(np.uint8)
    nib.save(image, path)


def turned(path, values):
    image = nib.Nifti1Image(values, PHANTOM.affine)
    target = nib.orientations.axcodes2ornt("SLA")
    there = nib.orientations.io_orientation(PHANTOM.affine)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(there, target)), path)


def moved(path, values):
    nib.save(nib.Nifti1Image(values, SHIFTED), path)


def one_hot(path, values):
    stacked = np.stack([values == label for label in np.unique(values)], axis=3)
    nib.save(nib.Nifti1Image(stacked.astype(np.uint8), PHANTOM.affine), path)


KINDS = [(as_it_is, np.uint8), (as_it_is, np.float64), (in_steps, np.uint8), (turned, np.int16),
         (moved, np.uint8), (one_hot, np.uint8)]  # fmt: skip


def in_memory_and_on_disk(scratch, read):
    return read(Room(10**9)), read(Room(0, str(scratch)))


@pytest.mark.parametrize(("write", "kind"), KINDS)
def test_it_has_the_same_values_and_findings(tmp_path, write, kind):
    path = tmp_path / "mask.nii.gz"
    write(path, PHANTOM.mask_XYZ.astype(kind))
    policy = Policy(fixes=frozenset({"onehot"})) if write is one_hot else Policy()
    with scratch_folder(tmp_path) as scratch:
        memory, disk = in_memory_and_on_disk(
            scratch, lambda room: read_mask(Store(), str(path), GRID, policy, room)
        )
        assert not is_mapped(memory.values_XYZ)
        assert is_mapped(disk.values_XYZ)
        assert is_mapped(disk.labels_XYZ)
        assert disk.inputs == memory.inputs
        travelled = pickle.loads(pickle.dumps(disk.for_others()))
        for one in (disk, travelled):
            assert one.values_XYZ.dtype == memory.values_XYZ.dtype
            np.testing.assert_array_equal(one.values_XYZ, memory.values_XYZ)
            np.testing.assert_array_equal(one.labels_XYZ, memory.labels_XYZ)
        if write is not moved:
            np.testing.assert_array_equal(disk.labels_XYZ, PHANTOM.mask_XYZ)
        for labels, content in ((None, True), ((0, 1), False)):
            wanted, found = (
                look_at_mask(one.values_XYZ, PHANTOM.image_XYZ, GRID, labels, content=content)
                for one in (memory, travelled)
            )
            assert found == wanted
        assert wanted


def test_parts_in_a_file_each_are_joined(tmp_path):
    parts = []
    for label in (1, 2):
        path = tmp_path / f"{label}.nii.gz"
        as_it_is(path, np.uint8(PHANTOM.mask_XYZ == label))
        parts.append(Part(label=label, name=str(label), url=str(path)))
    with scratch_folder(tmp_path) as scratch:
        memory, disk = in_memory_and_on_disk(
            scratch,
            lambda room: read_reference(Store(), "parts", parts, GRID, Policy(), room),
        )
        assert is_mapped(disk.values_XYZ)
        np.testing.assert_array_equal(disk.values_XYZ, memory.values_XYZ)
        np.testing.assert_array_equal(disk.values_XYZ, PHANTOM.mask_XYZ)
