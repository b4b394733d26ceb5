"""The label maps to look at, on the page and as a table."""

from unet_pipeline.cost import run_cost
from unet_pipeline.evaluation.doubts import Doubt
from unet_pipeline.evaluation.review import Review
from unet_pipeline.records import CaseRecord, RunSummary
from unet_pipeline.report.page import report_html
from unet_pipeline.report.review_table import review_csv

REVIEWS = [
    Review("b", (Doubt("1", 9.04, "volume 3 ml, usually 17 to 25 ml"), Doubt("7", 4.0, "absent"))),
    Review("=c", (Doubt("1", 4.0, "volume 30 ml, usually 17 to 25 ml"),)),
]
NAMES = {"1": "liver"}


def test_the_table():
    assert review_csv(REVIEWS, NAMES).split("\r\n") == [
        "case,score,reasons",
        'b,9.0,"liver: volume 3 ml, usually 17 to 25 ml; label 7: absent"',
        '\'=c,4.0,"liver: volume 30 ml, usually 17 to 25 ml"',
        "",
    ]


def test_the_page_shows_them_first():
    records = [CaseRecord(name, "done", dice={"1": dice}) for name, dice in
               (("a", 0.1), ("b", 0.9), ("=c", 0.8))]  # fmt: skip
    cost = run_cost(records, seconds=1.0, workers=1, rate=None)
    summary = RunSummary("20261121T013000Z-3f2a", {"done": 3}, {}, 1.0, 1.0, 0.5, "report.html",
                         "cases.csv", cost, labels=NAMES)  # fmt: skip
    page = report_html(summary, records, dict.fromkeys("abc", b"png"), {}, REVIEWS)
    assert "To look at first" in page
    assert "liver: volume 3 ml" in page
    rows = page[page.index('id="cases"') :]
    assert rows.index("<bdi>=c") < rows.index(">a<")
    assert "To look at first" not in report_html(summary, records, {}, {})
