"""A few voxels of a coarse view need many of the file's: they are read part by part."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from unet_pipeline.tiling.box import Box
from unet_pipeline.volume import views
from unet_pipeline.volume.views import ArrayView, Resampled


@dataclass(frozen=True)
class Asked(ArrayView):
    """Keeps how many voxels it was asked for at a time."""

    sizes: list[int] = field(default_factory=list)

    def read(self, box):
        self.sizes.append(box.size)
        return super().read(box)


@pytest.mark.parametrize("steps", [(4.3, 3.0, 5.1), (0.7, 1.0, 6.0), (9.0, 0.5, 0.5)])
def test_a_coarse_view_asks_for_no_more_at_a_time_and_gives_the_same_bits(monkeypatch, steps):
    values_CXYZ = np.random.default_rng(0).normal(size=(2, 44, 40, 52)).astype(np.float32)
    shape = tuple(int((n - 1) / step) + 1 for n, step in zip((44, 40, 52), steps, strict=True))
    inner = Asked(values_CXYZ)
    view, box = Resampled(inner, steps, shape), Box.whole(shape)
    at_once = view.read(box)
    assert inner.sizes == [view.needs(box).size]
    inner.sizes.clear()
    monkeypatch.setattr(views, "_NEEDED_BYTES", 4 * 2 * 20_000)
    assert np.array_equal(view.read(box), at_once)
    assert len(inner.sizes) > 3
    assert max(inner.sizes) < 30_000  # neighbouring parts share the voxels between them
