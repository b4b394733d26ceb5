"""What is done to a label map on disk, slab by slab, is what is done to one in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unet_pipeline.evaluation import label_statistics as statistics_module
from unet_pipeline.evaluation.confidence import Piece, TileConfidence, joined, no_sums, sums_of
from unet_pipeline.evaluation.label_statistics import label_statistics
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.postprocessing import postprocess, read_steps
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume import disk_arrays, kept
from unet_pipeline.volume.disk_arrays import Room, zeros
from unet_pipeline.volume.formats import nifti, nifti_voxels, writer_of
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import header_of
from unet_pipeline.volume.views import ArrayView

AFFINE = np.array([[0, -1.5, 0, 3], [2, 0, 0, -4], [0, 0, -0.7, 5], [0, 0, 0, 1.0]])
LABELS = {0: "background", 1: "one", 2: "two", 3: "three"}
STEPS = read_steps(
    ["remove-small:2voxels:1", "fill-holes", "largest:2", "merge:3:1", "keep:1,2"], LABELS
)
shapes = array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=9)
maps = shapes.flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 2, 3]))
)


@pytest.fixture(scope="module")
def room():
    with scratch_folder() as folder:
        yield Room(0, str(folder))


@pytest.fixture(autouse=True)
def slabs_of_a_slice_or_two(monkeypatch):
    monkeypatch.setattr(disk_arrays, "SLAB_VOXELS", 40)
    monkeypatch.setattr(kept, "CHUNK", (4, 2, 3))
    monkeypatch.setattr(kept, "_BOX_VOXELS", 20)


def both(values, room):
    """Return a map in memory, and the same on disk."""
    on_disk = zeros(values.shape, values.dtype, room)
    on_disk[...] = values
    return np.asfortranarray(values), on_disk


@given(maps)
def test_steps_after_the_decision(room, values):
    memory, disk = both(values, room)
    assert postprocess(memory, STEPS, 0.1) == postprocess(disk, STEPS, 0.1)
    np.testing.assert_array_equal(memory, disk)


@given(maps, st.integers(0, 2**32 - 1), st.sampled_from([1, 2**25]))
def test_statistics_dice_and_picture(room, values, seed, at_once):
    memory, disk = both(values, room)
    rng = np.random.default_rng(seed)
    image_XYZ = rng.normal(size=values.shape).astype(np.float32)
    _, reference = both(rng.permutation(values, axis=0), room)
    grid = VoxelGrid.of(values.shape, AFFINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics_module, "_VOXELS_AT_ONCE", at_once)
        views = [ArrayView(image_XYZ[None])]
        found = [label_statistics(one, grid, LABELS, views) for one in (memory, disk)]
    assert found[0] == found[1]
    in_memory = np.array(reference, order="F")
    wanted = dice_per_label(memory, in_memory, LABELS)
    assert dice_per_label(disk, reference, LABELS) == wanted
    assert wanted == {
        k: 2 * np.sum((values == k) & (in_memory == k)) / n
        if (n := np.sum(values == k) + np.sum(in_memory == k))
        else None
        for k in LABELS
    }
    pictures = [
        overlay_png(image_XYZ, one, grid.spacing_mm, other, axcodes=tuple(grid.axcodes))
        for one, other in ((memory, in_memory), (disk, reference))
    ]
    assert pictures[0] == pictures[1]


@given(maps, st.data(), st.integers(1, 3))
def test_margins(room, values, data, threads):
    memory, disk = both(values, room)
    margins = np.random.default_rng(0).integers(0, 256, values.shape).astype(np.uint8)
    cut = data.draw(st.integers(1, values.shape[0] - 1))
    whole = Box.whole(values.shape)
    boxes = [Box((0, 0, 0), (cut, *whole.stop[1:])), Box((cut, 0, 0), whole.stop)]
    tiles = [TileConfidence(no_sums(4), (Piece(box, margins[box.within(whole)]),)) for box in boxes]
    alone = TileConfidence(no_sums(4), (Piece(whole, np.asfortranarray(margins)),))
    on_disk = joined(tiles, values.shape, room)
    np.testing.assert_array_equal(on_disk, margins)
    np.testing.assert_array_equal(sums_of(memory, [alone]), sums_of(disk, tiles, threads))
    pieces = TileConfidence(no_sums(4), (Piece(whole, on_disk),))
    np.testing.assert_array_equal(sums_of(memory, [alone]), sums_of(disk, [pieces], threads))


@given(maps, st.sampled_from([np.uint8, np.int16]), st.integers(1, 3))
def test_a_stream_has_the_bytes_of_the_whole(room, values, kind, members):
    memory, disk = both(values.astype(kind), room)
    header = header_of(values.shape, AFFINE, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nifti_voxels, "MEMBER_BYTES", -(-memory.nbytes // members))
        wanted = encode_labels(memory, header)
        patch.setattr(nifti, "ENCODED_BYTES", 0)
        ((name, parts),) = writer_of("nifti").encode(disk, header)
        assert name == ""
        assert not isinstance(parts, bytes)
        for _ in range(2):
            assert b"".join(parts) == wanted
    in_chunks = [list(writer_of("ome-zarr").encode(one, header)) for one in (memory, disk)]
    assert in_chunks[0] == in_chunks[1]
