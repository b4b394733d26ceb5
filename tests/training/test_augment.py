import numpy as np
import torch
from scipy import ndimage

from unet_pipeline.training.augment import (
    Augmentation,
    augmentation_named,
    moved,
    rotation,
    with_coarse_voxels,
    with_gamma,
)

NONE = augmentation_named("none")


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


def test_flips_are_along_the_named_axes_only_and_take_the_labels_along():
    images = torch.arange(2.0 * 4 * 6).reshape(1, 1, 2, 4, 6)
    labels = images[:, 0].long()
    flipping = augmentation_named("none", (0, 2))
    seen = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        changed, same = flipping(images, labels, (1.0, 1.0, 1.0), rng)
        torch.testing.assert_close(changed[:, 0], same.float(), atol=1e-4, rtol=0)
        seen.add(tuple(same.flatten().tolist()))
    wanted = [labels.flip(axes) for axes in ((), (1,), (3,), (1, 3))]
    assert seen == {tuple(one.flatten().tolist()) for one in wanted}


def test_a_gamma_bends_and_keeps_mean_and_deviation():
    image = torch.linspace(-1, 3, 60).reshape(1, 3, 4, 5)
    bent = with_gamma(image, 2.0)
    torch.testing.assert_close(bent.mean(), image.mean())
    torch.testing.assert_close(bent.std(), image.std())
    unit = (bent - bent.min()) / (bent.max() - bent.min())
    torch.testing.assert_close(unit.flatten(), torch.linspace(0, 1, 60) ** 2, atol=1e-5, rtol=0)
    constant = torch.full((1, 2, 2, 2), 5.0)
    torch.testing.assert_close(with_gamma(constant, 2.0), constant)


def test_coarse_voxels_keep_the_large_and_lose_the_small():
    ramp = torch.arange(16.0).reshape(1, 16, 1, 1).expand(1, 16, 16, 16)
    coarse = with_coarse_voxels(ramp, 2.0)
    assert (coarse - ramp).abs().max() <= 1.0
    checks = torch.from_numpy(np.indices((16, 16, 16)).sum(axis=0) % 2)[None].float()
    assert with_coarse_voxels(checks, 2.0).std() < 0.1 * checks.std()


def test_a_blur_is_gaussian():
    blurring = Augmentation(0, 0, 0, 0, 0, blur=2.0, share=1.0)
    images = torch.zeros(1, 1, 21, 21, 21)
    images[..., 10, 10, 10] = 1000.0
    changed, _ = blurring(images, images[:, 0].long(), (1.0, 1.0, 1.0), np.random.default_rng(3))
    profile = changed[0, 0].sum(dim=(1, 2)).numpy()
    width = np.sqrt((profile * (np.arange(21) - 10) ** 2).sum() / profile.sum())
    assert 0.2 < width <= 2.1
    wanted = ndimage.gaussian_filter1d(np.eye(21)[10], width, truncate=6) * profile.sum()
    np.testing.assert_allclose(profile, wanted, atol=0.05 * profile.max())
