"""Numbers about labels: by eye, against SimpleITK, and as a table."""

import io
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pyarrow import parquet

from unet_pipeline.evaluation import label_statistics as of_labels
from unet_pipeline.evaluation.label_statistics import OF_INTENSITY, OF_SHAPE, label_statistics
from unet_pipeline.evaluation.surface_area import surface_areas_mm2
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.statistics_table import statistics_csv, statistics_parquet
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.views import ArrayView

shapes = array_shapes(min_dims=3, max_dims=3, max_side=6)
spacings = st.tuples(*[st.sampled_from((0.5, 0.7, 1.0, 2.5))] * 3)


def grid_of(shape, spacing_mm=(1.0, 1.0, 1.0)):
    return VoxelGrid.of(shape, np.diag([*spacing_mm, 1.0]))


def test_a_map_by_eye():
    labels_XYZ = np.zeros((4, 3, 3), np.uint8)
    labels_XYZ[0, 1, 1] = labels_XYZ[0, 1, 2] = labels_XYZ[3, 1, 1] = 1
    labels_XYZ[2, 2, 2] = 9
    image = ArrayView(np.arange(36, dtype=np.float32).reshape(1, 4, 3, 3))
    grid = VoxelGrid.of((4, 3, 3), [[-2, 0, 0, 10], [0, 1, 0, 0], [0, 0, 0.5, 0], [0, 0, 0, 1]])
    found = label_statistics(labels_XYZ, grid, (1, 2), [image])
    assert found["2"] == {"voxels": 0, "volume_ml": 0.0}
    assert 7 < found["1"].pop("surface_mm2") < 17  # of two boxes, one of 2 x 1 x 1 mm
    assert found["1"] == {
        "voxels": 3, "volume_ml": 0.003, "parts": 2, "largest_part": 0.666667,
        "centroid_x_mm": 8.0, "centroid_y_mm": 1.0, "centroid_z_mm": 0.666667,
        "x_min_mm": 3.0, "y_min_mm": 0.5, "z_min_mm": 0.25,
        "x_max_mm": 11.0, "y_max_mm": 1.5, "z_max_mm": 1.25,
        "cut": "LRS", "mean": 13.333333, "sd": 15.307950, "p5": 4.1, "median": 5.0, "p95": 28.4,
        "padding": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(("filled", "share"), [(20, 0.5), (0, 0.0)])
def test_how_much_of_a_label_lies_where_a_scan_was_filled_up(monkeypatch, filled, share):
    """Four corners with one value say so; noise, as dark as it may be, does not."""
    image_XYZ = np.random.default_rng(0).normal(-7, 1, (8, 9, 40)).astype(np.float32)
    image_XYZ[:, :, :filled] = -7
    labels_XYZ = np.zeros((8, 9, 40), np.uint8)
    labels_XYZ[2:5, 2:5, 10:30] = 3
    for at_once in (2**25, 10):
        monkeypatch.setattr(of_labels, "_VOXELS_AT_ONCE", at_once)
        grid = grid_of(labels_XYZ.shape)
        found = label_statistics(labels_XYZ, grid, [3], [ArrayView(image_XYZ[None])])["3"]
        assert found["padding"] == pytest.approx(share)


def test_channels_have_their_numbers():
    labels_XYZ = np.ones((2, 2, 2), np.uint8)
    images = [ArrayView(np.full((1, 2, 2, 2), value, np.float32)) for value in (3, 5)]
    (found,) = label_statistics(labels_XYZ, grid_of((2, 2, 2)), [1], images).values()
    assert (found["mean_0"], found["mean_1"], found["sd_1"]) == (3.0, 5.0, 0.0)
    assert "mean" not in found


def turned(spacing_mm):
    """A grid that is oblique, mirrored and moved."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0],
                     [0, 0, -1]])  # fmt: skip
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing_mm, (12.5, -3.0, 40.0)
    return affine


@given(
    arrays(np.uint8, shapes, elements=st.integers(0, 4)), spacings, st.sampled_from("CF"), st.data()
)
def test_statistics_are_simpleitks(labels_XYZ, spacing_mm, order, data):
    values = arrays(np.float32, labels_XYZ.shape, elements=st.integers(-99, 99).map(float))
    image_XYZ, affine = data.draw(values), turned(spacing_mm)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    theirs = [sitk.GetImageFromArray(np.ascontiguousarray(a.T)) for a in (labels_XYZ, image_XYZ)]
    for each in theirs:
        each.SetSpacing(spacing_mm)
        each.SetOrigin(lps[:3, 3])
        each.SetDirection((lps[:3, :3] / spacing_mm).ravel())
    shape, intensity = sitk.LabelShapeStatisticsImageFilter(), sitk.LabelStatisticsImageFilter()
    shape.Execute(theirs[0])
    padded = sitk.LabelShapeStatisticsImageFilter()
    padded.Execute(sitk.ConstantPad(theirs[0], [1] * 3, [1] * 3))  # a single row it counts wrongly
    intensity.Execute(theirs[1], theirs[0])
    ours = label_statistics(
        np.asarray(labels_XYZ, order=order), VoxelGrid.of(labels_XYZ.shape, affine), range(1, 5),
        [ArrayView(image_XYZ[None])],
    )  # fmt: skip
    for label in range(1, 5):
        found = ours[str(label)]
        if not shape.HasLabel(label):
            assert found == {"voxels": 0, "volume_ml": 0.0}
            continue
        x, y, z = shape.GetCentroid(label)
        wanted = {
            "voxels": shape.GetNumberOfPixels(label),
            "volume_ml": shape.GetPhysicalSize(label) / 1000,
            "centroid_x_mm": -x, "centroid_y_mm": -y, "centroid_z_mm": z,
            "mean": intensity.GetMean(label),
            "median": np.median(image_XYZ[labels_XYZ == label]),
        }  # fmt: skip
        if wanted["voxels"] > 1:
            wanted["sd"] = intensity.GetSigma(label)
        if len(set(spacing_mm)) == 1:
            wanted["surface_mm2"] = padded.GetPerimeter(label)
        alone = sitk.ConnectedComponent(theirs[0] == label, True)
        wanted["parts"] = int(sitk.GetArrayFromImage(alone).max())
        for name, value in wanted.items():
            assert found[name] == pytest.approx(value, rel=1e-5, abs=2e-6), name


@pytest.mark.parametrize("at_once", [1, 900, 2**26])
def test_slabs_and_labels_at_once_do_not_show(monkeypatch, at_once):
    monkeypatch.setattr(of_labels, "_VOXELS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    labels_XYZ = rng.integers(0, 6, (9, 7, 70), np.uint16)  # specks of all labels everywhere
    images = [ArrayView(rng.normal(size=(1, 9, 7, 70)).astype(np.float32)) for _ in range(2)]
    found = label_statistics(labels_XYZ, grid_of((9, 7, 70)), (1, 3, 5), images)
    assert [*found] == ["1", "3", "5"]
    for label, numbers in found.items():
        inside = labels_XYZ == int(label)
        for channel, image in enumerate(images):
            values = image.read(Box.whole(inside.shape))[0][inside]
            assert numbers[f"mean_{channel}"] == pytest.approx(values.mean(), abs=1e-5)
            assert numbers[f"p95_{channel}"] == pytest.approx(np.percentile(values, 95), abs=1e-5)
        assert numbers["centroid_z_mm"] == pytest.approx(np.nonzero(inside)[2].mean(), abs=1e-5)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.8, 0.8, 4), (2, 0.7, 0.7)])
@pytest.mark.parametrize("sheared", [0.0, 0.4])
def test_the_surface_of_a_tilted_ellipsoid(spacing_mm, sheared):
    axes_mm, turn = turned(spacing_mm)[:3, :3], turned((1, 1, 1))[:3, :3]
    axes_mm[:, 1] += sheared * axes_mm[:, 0]
    shape = tuple(int(110 / n) for n in spacing_mm)
    places_mm = (np.moveaxis(np.indices(shape), 0, -1) - np.divide(shape, 2.1)) @ axes_mm.T
    inside = (((places_mm @ turn) / (25, 25, 10)) ** 2).sum(-1) < 1
    flat = np.sqrt(1 - (10 / 25) ** 2)  # of an oblate spheroid
    wanted_mm2 = 2 * np.pi * 25**2 * (1 + (1 - flat**2) / flat * np.arctanh(flat))
    (_, found_mm2) = surface_areas_mm2(inside.astype(np.uint16), axes_mm)
    assert found_mm2 == pytest.approx(wanted_mm2, rel=0.06)


def test_a_line_for_each_label_of_each_case():
    of_before = CaseRecord("c", "skipped")
    of_a = {"10": {"voxels": 2.0, "volume_ml": 0.25}, "2": {"voxels": 0.0, "volume_ml": 0.0}}
    records = [CaseRecord("a", "done", statistics=of_a),
               CaseRecord("=b", "done", statistics={"2": {"voxels": 123456789, "cut": "L"}}),
               of_before]  # fmt: skip
    lines = statistics_csv(records, {"2": "liver"}).split("\r\n")
    assert lines == [
        "case,label,name,voxels,volume_ml,cut",
        "a,2,liver,0,0,",
        "a,10,10,2,0.25,",
        "'=b,2,liver,123456789,,L",
        "",
    ]


def test_parquet_has_the_same_with_types(monkeypatch):
    of_a = {"10": {"voxels": 2.0, "volume_ml": 0.25}, "2": {"voxels": 0, "volume_ml": 0.0}}
    records = [CaseRecord("a", "done", statistics=of_a),
               CaseRecord("=b", "done", statistics={"2": {"voxels": 7, "cut": "L"}})]  # fmt: skip
    data = statistics_parquet(records, {"2": "liver"})
    table = parquet.read_table(io.BytesIO(data))
    assert table.schema.names == ["case", "label", "name", "voxels", "volume_ml", "cut"]
    assert list(map(str, table.schema.types)) == [
        "string", "int32", "string", "double", "double", "string"
    ]  # fmt: skip
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("a", 2, "liver", 0.0, 0.0, ""),
        ("a", 10, "10", 2.0, 0.25, ""),
        ("=b", 2, "liver", 7.0, None, "L"),
    ]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert statistics_parquet(records, {}) is None


def test_names_of_statistics_are_columns():
    assert all(name.isidentifier() for name in (*OF_SHAPE, *OF_INTENSITY))
