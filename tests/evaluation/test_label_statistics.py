"""Numbers about labels: by eye, against SimpleITK, and as a table."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unet_pipeline.evaluation.label_statistics import STATISTICS, label_statistics
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.statistics_table import statistics_csv
from unet_pipeline.volume.grid import VoxelGrid

shapes = array_shapes(min_dims=3, max_dims=3, max_side=6)
spacings = st.tuples(*[st.sampled_from((0.5, 0.7, 1.0, 2.5))] * 3)


def grid_of(shape, spacing_mm=(1.0, 1.0, 1.0)):
    return VoxelGrid.of(shape, np.diag([*spacing_mm, 1.0]))


def test_a_map_by_eye():
    labels_XYZ = np.array([[[1, 1, 2], [0, 9, 1]]], np.uint8)
    found = label_statistics(labels_XYZ, grid_of((1, 2, 3), (2.0, 1.0, 0.5)), (1, 2, 3))
    assert found == {
        "1": {"voxels": 3, "volume_ml": 0.003},
        "2": {"voxels": 1, "volume_ml": 0.001},
        "3": {"voxels": 0, "volume_ml": 0.0},
    }


@given(arrays(np.uint8, shapes, elements=st.integers(0, 4)), spacings, st.sampled_from("CF"))
def test_volumes_are_simpleitks(labels_XYZ, spacing_mm, order):
    image = sitk.GetImageFromArray(np.ascontiguousarray(labels_XYZ.T))
    image.SetSpacing(spacing_mm)
    theirs = sitk.LabelShapeStatisticsImageFilter()
    theirs.Execute(image)
    ours = label_statistics(
        np.asarray(labels_XYZ, order=order), grid_of(labels_XYZ.shape, spacing_mm), range(1, 5)
    )
    for label in range(1, 5):
        voxels = theirs.GetNumberOfPixels(label) if theirs.HasLabel(label) else 0
        ml = theirs.GetPhysicalSize(label) / 1000 if theirs.HasLabel(label) else 0.0
        assert ours[str(label)]["voxels"] == voxels
        assert ours[str(label)]["volume_ml"] == pytest.approx(ml, rel=1e-9, abs=1e-6)


def test_a_line_for_each_label_of_each_case():
    of_before = CaseRecord("c", "skipped")
    of_a = {"10": {"voxels": 2.0, "volume_ml": 0.25}, "2": {"voxels": 0.0, "volume_ml": 0.0}}
    records = [CaseRecord("a", "done", statistics=of_a),
               CaseRecord("=b", "done", statistics={"2": {"voxels": 123456789.0, "parts": 3.0}}),
               of_before]  # fmt: skip
    lines = statistics_csv(records, {"2": "liver"}).split("\r\n")
    assert lines == [
        "case,label,name,voxels,volume_ml,parts",
        "a,2,liver,0,0,",
        "a,10,10,2,0.25,",
        "'=b,2,liver,123456789,,3",
        "",
    ]


def test_names_of_statistics_are_columns():
    assert all(name.isidentifier() for name in STATISTICS)
