"""The size of each label over a run, as the report shows it."""

import re
from dataclasses import replace

from unet_pipeline.records import CaseRecord
from unet_pipeline.report.label_sizes import LabelSize, label_sizes
from unet_pipeline.report.spreads import BINS, HALF, spread_of


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
    assert label_sizes(records)[0].spread.now == (0,) * BINS
    sizes = label_sizes(records, of_run=True)
    assert [replace(size, spread=None) for size in sizes] == [
        LabelSize("2", 3, 3, 1.1, 2.0, 2.9, in_parts=2, cut=2),
        LabelSize("10", 2, 1, 4.0, 4.0, 4.0, in_parts=0, cut=0),
    ]

    spread = sizes[0].spread
    assert (spread.low, spread.high, spread.median_now) == (1.0, 3.0, 2.0)
    assert (sum(spread.before), spread.now[0], spread.now[-1], sum(spread.now)) == (1, 1, 1, 2)
    assert sizes[1].spread is None


def test_what_is_far_beyond_is_counted_at_the_ends():
    """30 cases from 10.0 to 12.9 ml; two of this run are far off."""
    before = [10 + index / 10 for index in range(30)]
    spread = spread_of(before, [0.1, 11.0, 500.0])
    assert (spread.below, spread.above) == (1, 1)
    assert 0 < spread.low < 10
    assert 12.9 < spread.high < 30
    assert sum(spread.before) == 30
    assert (spread.now[0], spread.now[-1], sum(spread.now)) == (1, 1, 3)
    heights = [float(one) for one in re.findall(r"h1v([-\d.]+)h-1z", spread.up)]
    assert min(heights) == -HALF
    assert len(heights) == sum(bool(count) for count in spread.before)
    assert spread_of([], []) is None
    assert spread_of([2.0], [2.0]) is None


def test_a_label_that_no_case_has():
    (size,) = label_sizes([CaseRecord("a", "done", statistics={"1": of(0.0)})])
    assert size == LabelSize("1", 1, 0, None, None, None, in_parts=0, cut=0)
