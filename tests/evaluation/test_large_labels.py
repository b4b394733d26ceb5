"""What numbers about labels take of memory: values of large labels are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unet_pipeline.evaluation.intensities import CountedValues, Values
from unet_pipeline.evaluation.label_statistics import label_statistics
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.views import ArrayView

shapes = array_shapes(min_dims=3, max_dims=3, max_side=7)


@given(st.lists(arrays(np.float32, st.integers(1, 20), elements=st.integers(-50, 50)), min_size=1))
def test_counted_values_have_the_numbers_of_all_values(parts):
    counted, kept = CountedValues.of(parts), Values(np.concatenate(parts))
    assert counted.mean == pytest.approx(kept.mean, abs=1e-9)
    assert counted.sd == pytest.approx(kept.sd, abs=1e-9)
    assert counted.sd == pytest.approx(np.std(kept.values.astype(float), ddof=kept.values.size > 1))
    assert counted.percentiles == pytest.approx(kept.percentiles, abs=1e-4)


def test_a_label_that_is_counted_has_the_same_numbers(monkeypatch):
    random = np.random.default_rng(0)
    labels_XYZ = random.integers(0, 3, (9, 8, 70)).astype(np.uint8)
    image = ArrayView(random.normal(0, 100, (1, 9, 8, 70)).astype(np.float32))
    asked = (labels_XYZ, VoxelGrid.of(labels_XYZ.shape, np.eye(4)), (1, 2), [image])
    kept = label_statistics(*asked)
    monkeypatch.setattr("unet_pipeline.evaluation.label_statistics._VOXELS_AT_ONCE", 100)
    for label, values in label_statistics(*asked).items():
        assert values.pop("cut") == kept[label].pop("cut")
        assert values == pytest.approx(kept[label], rel=1e-5)
