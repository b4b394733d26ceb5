import numpy as np
import pytest

from unet_pipeline.training.crops import CropSource, Sample, cut


def sample(shape, labelled=()):
    labels_XYZ = np.zeros(shape, dtype=np.uint8)
    for index, voxel in enumerate(labelled, start=1):
        labels_XYZ[voxel] = index
    image_CXYZ = np.arange(labels_XYZ.size, dtype=np.float32).reshape(1, *shape)
    return Sample(image_CXYZ, labels_XYZ)


def draws(source, roi_size, seed, count=200):
    rng = np.random.default_rng(seed)
    return [source.draw(roi_size, rng) for _ in range(count)]


def test_the_same_seed_draws_the_same_crops():
    source = CropSource(sample((9, 8, 7), [(1, 1, 1), (7, 6, 5)]))
    first, again, other = (draws(source, (4, 4, 4), seed) for seed in (3, 3, 4))
    first, again, other = (
        np.stack([c.image_CXYZ for c in crops]) for crops in (first, again, other)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_foreground_crop_holds_a_label_and_labels_take_turns():
    # Label 2 is one voxel in a corner: crops that lie anywhere see it 1 time in 64.
    source = CropSource(sample((19, 19, 19), [(9, 9, 9), (0, 0, 0)]), foreground_share=1.0)
    found = [set(np.unique(crop.labels_XYZ)) - {0} for crop in draws(source, (4, 4, 4), 0)]
    assert all(found)
    assert 70 < sum(2 in labels for labels in found) < 130


def test_the_share_of_foreground_crops_is_kept():
    source = CropSource(sample((40, 40, 40), [(20, 20, 20)]), foreground_share=0.5)
    held = sum(crop.labels_XYZ.any() for crop in draws(source, (4, 4, 4), 0, count=400))
    assert 160 < held < 240


def test_crops_reach_every_voxel_of_a_case_without_labels():
    source = CropSource(sample((5, 6, 4)))
    seen = {value for crop in draws(source, (2, 2, 2), 0, 500) for value in crop.image_CXYZ.flat}
    assert len(seen) == 5 * 6 * 4


def test_image_and_labels_are_cut_alike():
    source = CropSource(sample((9, 8, 7), [(4, 4, 4)]))
    value = source.sample.image_CXYZ[0, 4, 4, 4]
    for crop in draws(source, (4, 5, 6), 0):
        assert np.array_equal(crop.labels_XYZ == 1, crop.image_CXYZ[0] == value)


def test_a_small_case_is_padded_as_monai_pads():
    image_CXYZ = np.ones((2, 2, 1, 3), dtype=np.float32)
    crop = cut(Sample(image_CXYZ, np.ones((2, 1, 3), dtype=np.uint8)), (0, 0, 0), (3, 4, 3))
    inside = np.zeros((3, 4, 3), dtype=np.uint8)
    inside[0:2, 1:2, 0:3] = 1  # 1 missing: none before, one after; 3 missing: one before
    assert np.array_equal(crop.labels_XYZ, inside)
    assert np.array_equal(crop.image_CXYZ, np.stack([inside, inside]).astype(np.float32))


@pytest.mark.parametrize("shape", [(3, 20, 5), (16, 16, 16), (1, 1, 1)])
def test_every_crop_has_the_size_of_the_window(shape):
    source = CropSource(sample(shape, [(0, 0, 0)]))
    for crop in draws(source, (4, 6, 8), 0, 20):
        assert crop.image_CXYZ.shape == (1, 4, 6, 8)
        assert crop.labels_XYZ.shape == (4, 6, 8)
