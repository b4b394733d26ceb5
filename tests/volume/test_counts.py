import numpy as np
import pytest

from unet_pipeline.volume.counts import counts_per_slice, label_counts


def test_labels_are_counted():
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[4:8, 4:8, 4:8] = 1
    mask[0, 0, 0] = 7
    assert label_counts(mask) == {0: 12**3 - 65, 1: 64, 7: 1}
    assert label_counts(-mask.astype(np.int16)) == {-7: 1, -1: 64, 0: 12**3 - 65}
    assert label_counts(mask.astype(np.int32) * 10**6)[7 * 10**6] == 1
    assert label_counts(mask.astype(np.float32)) == {0: 12**3 - 65, 1: 64, 7: 1}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5, 7, 300), (300, 7, 5), (5, 300, 7)])
def test_occupied_voxels_of_each_slice(shape, order):
    values = np.random.default_rng(0).integers(0, 3, shape)
    values[2] = 1  # more than 255 in a row
    expected = [np.count_nonzero(values, axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
    for turned in (values, values[::-1, :, ::-1][::-1, :, ::-1]):
        counts = counts_per_slice(np.asarray(turned, order=order))
        for axis in range(3):
            np.testing.assert_array_equal(counts[axis], expected[axis])
