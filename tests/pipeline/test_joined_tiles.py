"""The label map of a case from the labels of its tiles."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.finishing import join_tiles
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.tiles import TileLabels
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.disk_arrays import Room

shapes = st.tuples(*[st.integers(2, 9)] * 3)


def cut(values, place, order):
    """Yield the eight tiles that three cuts make."""
    parts = [
        ((0, at), (at, n)) if at < n else ((0, n),)
        for at, n in zip(place, values.shape, strict=True)
    ]
    for ends in product(*parts):
        box = Box(*zip(*ends, strict=True))
        labels = values[box.within(Box.whole(values.shape))]
        yield TileLabels(box, np.array(labels, order=order), 0.0)


@given(shapes, st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from("CF"), st.integers(0, 99))
def test_tiles_are_joined_on_disk_as_in_memory(shape, place, order, seed):
    values = np.random.default_rng(seed).integers(0, 9, shape).astype(np.uint8)
    with scratch_folder() as folder:
        for room in (Room(0, str(folder)), Room(10**9)):
            joined = join_tiles(cut(values, place, order), shape, room)
            np.testing.assert_array_equal(joined, values)
            assert joined.flags.f_contiguous
            del joined
