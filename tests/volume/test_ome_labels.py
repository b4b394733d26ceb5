"""Label maps as OME-Zarr: what other readers find, and what ours takes back."""

import json
import tracemalloc
from itertools import permutations, product

import numpy as np
import pytest
import zarr
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.axes import Axes
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.formats import reader_of, writer_of
from unet_pipeline.volume.formats.ome_labels import SMALL_ENOUGH, steps_of_levels
from unet_pipeline.volume.formats.protocol import Legend, ReadOptions
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import Header

WRITER = writer_of("ome-zarr")
LEGEND = Legend({0: "background", 1: "liver", 2: "Größe"}, {1: (230, 159, 0), 2: (86, 180, 233)})
TURNS = [
    np.array([[sign * (row == world) for world, sign in zip(order, signs, strict=True)]
              for row in range(3)], float)
    for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]  # fmt: skip


def header_of(shape, affine, dtype=np.uint8, *, flat=False):
    return Header(VoxelGrid.of(shape, affine), np.dtype(dtype), flat=flat)


def placed(turn, spacing=(0.7, 1.1, 2.5), origin=(-91.3, 12.7, 803.1)):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, origin
    return affine


def blobs(shape, seed=0, dtype=np.uint8):
    """Label maps as they are: numbers that stay the same for some voxels."""
    coarse = np.random.default_rng(seed).integers(0, 4, [n // 5 + 1 for n in shape])
    fine = coarse.repeat(5, 0).repeat(5, 1).repeat(5, 2)
    return np.asfortranarray(fine[: shape[0], : shape[1], : shape[2]].astype(dtype))


def write(folder, values_XYZ, header, legend=LEGEND):
    for name, data in WRITER.encode(values_XYZ, header, legend):
        Store().write(join(str(folder), name), data)
    return str(folder)


def read(url, level=0, *, flat=False):
    axes = Axes(level=level, flat=flat)
    view = read_volume(Store(), url, role="mask", budget_bytes=10**9, axes=axes).view
    return view.values(), view.header


@settings(max_examples=examples(80))
@given(
    shape=st.tuples(*[st.integers(1, 21)] * 3),
    turn=st.sampled_from(TURNS),
    spacing=st.tuples(*[st.floats(1e-3, 1e3)] * 3),
    origin=st.tuples(*[st.floats(-1e6, 1e6)] * 3),
    dtype=st.sampled_from((np.uint8, np.uint16, np.uint32)),
    data=st.data(),
)
def test_voxels_and_grid_come_back_to_the_bit(tmp_path_factory, **case):
    shape, dtype = case["shape"], case["dtype"]
    numbers = case["data"].draw(st.binary(min_size=1, max_size=40))
    values_XYZ = np.resize(np.frombuffer(numbers, np.uint8), shape).astype(dtype)
    values_XYZ.flat[0] = np.iinfo(dtype).max
    header = header_of(shape, placed(case["turn"], case["spacing"], case["origin"]), dtype)
    url = write(tmp_path_factory.mktemp("any") / "a.ome.zarr", values_XYZ, header)
    found, again = read(url)
    np.testing.assert_array_equal(found, values_XYZ)
    assert again.grid == header.grid
    assert again.dtype == dtype
    assert again.remarks == ()  # nothing is assumed, and every chunk is there


def test_ome_zarr_py_finds_voxels_names_colours_and_place(tmp_path):
    values_XYZ = blobs((300, 40, 31))
    url = write(tmp_path / "a.ome.zarr", values_XYZ, header_of(values_XYZ.shape, placed(TURNS[0])))
    (node,) = list(Reader(parse_url(url))())
    assert [level.shape for level in node.data] == [(31, 40, 300), (31, 20, 150)]
    np.testing.assert_array_equal(np.asarray(node.data[0]), values_XYZ.T)
    np.testing.assert_array_equal(np.asarray(node.data[1]), values_XYZ[::2, ::2].T)
    assert node.metadata["properties"][1] == {"name": "liver"}
    assert node.metadata["properties"][2] == {"name": "Größe"}
    assert node.metadata["color"][1] == pytest.approx([230 / 255, 159 / 255, 0, 1])
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in node.metadata["axes"]} == {"millimeter"}
    fine, coarse = node.metadata["coordinateTransformations"]
    assert fine[0] == {"type": "scale", "scale": [2.5, 1.1, 0.7]}
    assert coarse[0] == {"type": "scale", "scale": [2.5, 2.2, 1.4]}
    assert fine[1] == coarse[1] == {"type": "translation", "translation": [803.1, 12.7, -91.3]}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_zarr_opens_each_level_and_knows_its_axes(tmp_path, dtype):
    values_XYZ = blobs((140, 9, 7), dtype=dtype)
    header = header_of(values_XYZ.shape, placed(TURNS[5]), dtype)
    group = zarr.open_group(write(tmp_path / "a.ome.zarr", values_XYZ, header), mode="r")
    array = group["0"]
    np.testing.assert_array_equal(array[:], values_XYZ.T)
    assert array.chunks == (7, 9, 128)
    assert array.metadata.dimension_names == ("z", "y", "x")


def test_levels_make_voxels_cubes_before_they_make_them_larger():
    grid = VoxelGrid.of((1000, 600, 120), placed(TURNS[0], (0.5, 0.5, 1.5)))
    assert steps_of_levels(grid) == [(1, 1, 1), (2, 2, 1), (4, 4, 2)]
    assert steps_of_levels(VoxelGrid.of((256, 3, 1), np.eye(4))) == [(1, 1, 1)]


@given(
    st.tuples(*[st.integers(1, 5000)] * 3),
    st.tuples(*[st.floats(0.01, 100)] * 3),
)
def test_the_coarsest_level_is_small_enough_and_no_level_is_for_nothing(shape, spacing):
    steps = steps_of_levels(VoxelGrid.of(shape, placed(TURNS[0], spacing)))
    longest = [max(-(-n // step) for n, step in zip(shape, each, strict=True)) for each in steps]
    assert longest[-1] <= SMALL_ENOUGH
    assert all(one > SMALL_ENOUGH for one in longest[:-1])
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize("turn", TURNS[::7])
def test_a_voxel_of_a_level_lies_where_the_one_lies_that_it_is(tmp_path, turn):
    values_XYZ = blobs((261, 17, 12))
    header = header_of(values_XYZ.shape, placed(turn))
    url = write(tmp_path / "a.ome.zarr", values_XYZ, header)
    coarse_XYZ, found = read(url, level=1)
    steps = steps_of_levels(header.grid)[1]
    np.testing.assert_array_equal(
        coarse_XYZ, values_XYZ[tuple(slice(None, None, n) for n in steps)]
    )
    last = np.array(coarse_XYZ.shape) - 1
    np.testing.assert_allclose(
        found.grid.voxel_to_world_mm(last), header.grid.voxel_to_world_mm(last * steps), atol=1e-9
    )


def test_the_same_labels_give_the_same_bytes_and_the_metadata_come_last():
    values_XYZ = blobs((150, 140, 20))
    header = header_of(values_XYZ.shape, placed(TURNS[3]))
    objects = WRITER.encode(values_XYZ, header, LEGEND)
    once, more = list(objects), list(objects)
    assert once == more == list(WRITER.encode(np.ascontiguousarray(values_XYZ), header, LEGEND))
    names = [name for name, _ in once]
    assert names[-1] == "zarr.json"
    assert names == [
        *(f"0/c/0/{y}/{x}" for y in (0, 1) for x in (0, 1)),
        "0/zarr.json",
        "zarr.json",
    ]
    assert json.loads(once[-1][1])["attributes"]["ome"]["version"] == "0.5"


@pytest.mark.parametrize("degrees", [0.05, 5, 45])
def test_an_oblique_grid_is_refused_by_name_and_one_of_rounded_numbers_is_not(degrees):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0],
                     [0, 0, 1]])  # fmt: skip
    affine = placed(np.eye(3))
    affine[:3, :3] = turn @ affine[:3, :3]
    oblique = header_of((64, 64, 9), affine)
    with pytest.raises(CaseError) as caught:
        WRITER.check(oblique)
    assert caught.value.code == "grid_not_axis_aligned"
    with pytest.raises(CaseError):
        list(WRITER.encode(blobs((64, 64, 9)), oblique, LEGEND))
    writer_of("nifti").check(oblique)
    rounded = placed(np.eye(3))
    rounded[0, 1] = rounded[1, 0] = 1e-7
    WRITER.check(header_of((64, 64, 9), rounded))


def test_a_sheared_grid_is_refused():
    sheared = placed(np.eye(3))
    sheared[1, 2] = 0.4
    with pytest.raises(CaseError) as caught:
        WRITER.check(header_of((64, 64, 9), sheared))
    assert caught.value.code == "grid_not_axis_aligned"


@pytest.mark.parametrize(("affine", "axes"), [
    (np.diag([-0.5, 0.7, 1, 1]), "yx"),  # as readers take two axes
    (placed(TURNS[0]), "zyx"),  # the place of the slice is kept
    (placed(TURNS[9]), "zyx"),
])  # fmt: skip
def test_a_slice_comes_back_where_it_was(tmp_path, affine, axes):
    values_XYZ = blobs((600, 30, 1))
    header = header_of(values_XYZ.shape, affine, flat=True)
    url = write(tmp_path / "a.ome.zarr", values_XYZ, header)
    found, again = read(url, flat=True)
    np.testing.assert_array_equal(found, values_XYZ)
    assert again.grid == header.grid
    assert zarr.open_array(f"{url}/0", mode="r").metadata.dimension_names == tuple(axes)


def test_it_lies_on_an_image_whose_orientation_was_assumed(tmp_path):
    """The numbers are those of the image's metadata, for viewers that know no orientation."""
    image = tmp_path / "image.ome.zarr"
    values_XYZ = blobs((20, 18, 16))
    write(image, values_XYZ, header_of(values_XYZ.shape, placed(TURNS[0])))
    root = json.loads((image / "zarr.json").read_text())
    (multiscale,) = root["attributes"]["ome"]["multiscales"]
    for axis in multiscale["axes"]:
        del axis["orientation"]
    (image / "zarr.json").write_text(json.dumps(root))
    header = reader_of(str(image)).probe(Store(), str(image), ReadOptions()).header
    labels = tmp_path / "labels.ome.zarr"
    write(labels, values_XYZ, header)
    written = json.loads((labels / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    assert written["datasets"] == multiscale["datasets"]
    assert read(str(labels))[1].grid == header.grid


def test_no_second_whole_copy_is_in_memory():
    values_XYZ = np.random.default_rng(0).integers(0, 256, (320, 320, 320), np.uint8)
    values_XYZ = np.asfortranarray(values_XYZ)  # that nothing can compress
    header = header_of(values_XYZ.shape, placed(TURNS[0]))
    tracemalloc.start()
    try:
        for _ in WRITER.encode(values_XYZ, header, LEGEND):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 128**3 < values_XYZ.nbytes / 3
