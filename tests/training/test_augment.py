import numpy as np
import torch

from unet_pipeline.training.augment import Augmentation, moved, rotation

NONE = Augmentation(rotation_deg=0, zoom=0, scale=0, shift=0, noise=0)


def block(shape=(1, 1, 8, 10, 12)):
    images = torch.zeros(shape)
    images[..., 2:6, 3:5, 4:9] = 1
    return images, images[:, 0].long()


def test_an_augmentation_of_size_zero_changes_nothing():
    images, labels = block()
    changed, same = NONE(images, labels, (1.0, 2.0, 3.0), np.random.default_rng(0))
    torch.testing.assert_close(changed, images, atol=1e-5, rtol=0)
    assert torch.equal(same, labels)
    assert same.dtype == torch.int64


def test_a_quarter_turn_about_the_third_axis_swaps_the_first_two():
    # 8 voxels of 2 mm and 16 of 1 mm are the same length: in mm, the quarter turn is exact.
    images = torch.zeros(1, 1, 8, 16, 4)
    images[0, 0, 0:2, 0:8] = 1
    quarter = rotation(2, np.pi / 2)[None]
    turned, labels = moved(images, images[:, 0].long(), quarter, (2.0, 1.0, 1.0))
    # Read at (x, y) -> (-y, x): the block at low x and low y comes from high y.
    wanted = torch.zeros(8, 16, 4)
    wanted[0:4, 12:16] = 1
    assert torch.equal(labels[0].float(), wanted)
    assert torch.equal(turned[0, 0] > 0.5, wanted == 1)


def test_a_zoom_keeps_the_middle_and_changes_the_volume_by_its_cube():
    grown = []
    for seed in range(20):
        images = torch.zeros(1, 1, 32, 32, 32)
        images[..., 8:24, 8:24, 8:24] = 1
        augmentation = Augmentation(rotation_deg=0, zoom=0.2, scale=0, shift=0, noise=0)
        zoomed, labels = augmentation(
            images, images[:, 0].long(), (1.0, 1.0, 1.0), np.random.default_rng(seed)
        )
        assert labels[0, 15:17, 15:17, 15:17].all()
        assert ((zoomed[:, 0] > 0.5) == (labels == 1)).float().mean() > 0.97
        grown.append(float(labels.sum()) / 16**3)
    # Zooms of 0.8 to 1.2 are asked for; edges fall on whole voxels.
    assert 0.95 / 1.2**3 < min(grown) < 0.8
    assert 1.4 < max(grown) < 1.05 / 0.8**3


def test_intensities_change_within_their_limits_and_labels_do_not():
    images, labels = block((2, 3, 8, 10, 12))
    augmentation = Augmentation(rotation_deg=0, zoom=0, scale=0.1, shift=0.2, noise=0)
    changed, same = augmentation(images, labels, (1.0, 1.0, 1.0), np.random.default_rng(0))
    assert torch.equal(same, labels)
    difference = (changed - images).abs()
    assert 0 < difference.max() < 0.3 + 1e-5
    # One scale and one shift for each crop, the same in all of its channels.
    for crop in changed:
        torch.testing.assert_close(crop[0], crop[1], atol=1e-5, rtol=0)
    assert not torch.allclose(changed[0], changed[1])


def test_the_same_seed_augments_alike():
    images, labels = block()
    first, again, other = (
        Augmentation()(images, labels, (1.0, 1.0, 1.0), np.random.default_rng(seed))[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
