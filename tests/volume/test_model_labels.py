"""Masks on the grid that the network sees."""

import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.networks.bundle_writer import standard_preprocessing
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.labels import model_labels
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.steps import prepare
from unet_pipeline.volume.views import ArrayView

GRID = VoxelGrid.of((4, 4, 2), np.diag([-1.0, 1.0, 1.0, 1.0]))  # axis 0 grows to the left


def test_a_mask_on_the_model_grid_is_copied():
    phantom = make_phantom(0)
    grid = VoxelGrid.of(phantom.mask_XYZ.shape, phantom.affine)
    steps = parse_preprocessing(standard_preprocessing((1.5, 1.5, 2.0)))
    prepared = prepare(steps, ArrayView(phantom.image_XYZ[None]), grid)
    assert np.array_equal(model_labels(phantom.mask_XYZ, prepared), phantom.mask_XYZ)


def test_a_resampled_mask_has_no_labels_between_its_own():
    mask_XYZ = np.zeros((4, 4, 4), dtype=np.int16)
    mask_XYZ[2:] = 7
    grid = VoxelGrid.of(mask_XYZ.shape, np.eye(4))
    steps = parse_preprocessing(standard_preprocessing((0.4, 1.0, 1.0)))
    labels = model_labels(mask_XYZ, prepare(steps, ArrayView(mask_XYZ[None]), grid))
    # Voxel k lies at 0.4 k: 0, 0.4, 0.8, 1.2 are nearer to voxels 0 and 1, from 1.6 on to 2 and 3.
    assert labels[:, 0, 0].tolist() == [0, 0, 0, 0, 7, 7, 7, 7]


def test_a_mask_takes_the_geometric_steps_only():
    steps = parse_preprocessing(
        [
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "NormalizeIntensityd", "keys": "image"},
            {"_target_": "DivisiblePadd", "keys": "image", "k": 4, "method": "end"},
        ]
    )
    image = np.random.default_rng(0).normal(size=(4, 4, 2))
    mask = np.zeros((4, 4, 2), np.uint8)
    mask[0, 1, 1] = 7
    prepared = prepare(steps, ArrayView(image[None]), GRID)
    labels = model_labels(mask, prepared)
    assert labels.shape == (4, 4, 4)  # padded at the end of its third axis
    assert np.argwhere(labels == 7).tolist() == [[3, 1, 1]]  # mirrored along its first
    assert np.count_nonzero(labels) == 1


def test_a_resampled_mask_has_the_label_of_the_largest_share():
    spacing = [{"_target_": "Spacingd", "keys": "image", "pixdim": (0.5, 1.0, 1.0)}]
    mask = np.zeros((4, 1, 1), np.uint8)
    mask[2:] = 3
    grid = VoxelGrid.of((4, 1, 1), np.eye(4))
    prepared = prepare(parse_preprocessing(spacing), ArrayView(mask[None]), grid)
    labels = model_labels(mask, prepared)[:, 0, 0].tolist()
    assert labels == [0, 0, 0, 0, 3, 3, 3]  # of two equal shares the lower label


def test_labels_that_are_no_small_numbers_are_refused():
    prepared = prepare((), ArrayView(np.zeros((1, 2, 2, 2))), VoxelGrid.of((2, 2, 2), np.eye(4)))
    with pytest.raises(CaseError) as caught:
        model_labels(np.full((2, 2, 2), 70_000), prepared)
    assert caught.value.code == "labels_out_of_range"
