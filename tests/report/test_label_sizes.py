"""The size of each label over a run, as the report shows it."""

from unet_pipeline.records import CaseRecord
from unet_pipeline.report.label_sizes import LabelSize, label_sizes


def of(ml, **more):
    return {"voxels": int(1000 * ml), "volume_ml": ml, **more}


def test_sizes_by_eye():
    records = [
        CaseRecord("a", "done", statistics={"10": of(4.0), "2": of(1.0, parts=2, cut="L")}),
        CaseRecord("b", "done", statistics={"10": of(0.0), "2": of(3.0, parts=1, cut="")}),
        CaseRecord("c", "skipped", statistics={"2": of(2.0, parts=3, cut="IR")}),
        CaseRecord("of a version before", "skipped"),
        CaseRecord("d", "quarantined", code="truncated"),
    ]
    assert label_sizes(records) == [
        LabelSize("2", 3, 3, 1.1, 2.0, 2.9, in_parts=2, cut=2),
        LabelSize("10", 2, 1, 4.0, 4.0, 4.0, in_parts=0, cut=0),
    ]


def test_a_label_that_no_case_has():
    (size,) = label_sizes([CaseRecord("a", "done", statistics={"1": of(0.0)})])
    assert size == LabelSize("1", 1, 0, None, None, None, in_parts=0, cut=0)
