"""The report and the tables of a check: what is doubtful first, all of it escaped."""

import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from unet_pipeline.gate.findings import Finding
from unet_pipeline.records import CheckRecord, CheckSummary
from unet_pipeline.report.check_page import MAX_DOUBTFUL, MAX_ROWS, check_html
from unet_pipeline.report.check_table import (
    attention_order,
    check_csv,
    check_markdown,
    check_rows,
    reasons,
)
from unet_pipeline.report.overlay import overlay_png


def finding(code, severity="fail", residual=None, fix=None):
    made = Finding(
        code, severity, f"found {code}", "wanted", "Do this", "mask", residual, 0.05, fix
    )
    return made.as_dict()


def record(case, verdict="pass", *findings, residual=0.0, **more):
    codes = tuple(dict.fromkeys(f["code"] for f in findings))
    return CheckRecord(case, verdict, codes, residual, "sentences", findings, **more)


SHIFTED = record("b", "fail", finding("origin_mismatch", residual=5.0, fix="resample-mask"),
                 finding("unit_unknown", "pass"), residual=5.0)  # fmt: skip
NEAR = record("a", "fail", finding("origin_mismatch", residual=0.2), residual=0.2)
DOUBTFUL = record("c", "warn", finding("content_doubtful", "warn"))
SOUND = record("d", "pass", finding("qform_only", "pass"), fixed=("mask: reorient",))
UNREAD = record("<script>", "fail", finding("file_truncated"), residual=None)
RECORDS = [SOUND, DOUBTFUL, NEAR, UNREAD, SHIFTED]


def summary(records) -> CheckSummary:
    counts = {v: sum(r.verdict == v for r in records) for v in ("pass", "warn", "fail")}
    return CheckSummary("20261121T013000Z-3f2a", counts, {"origin_mismatch": 2, "x": 1}, True,
                        2.5, 2.0, 12_345_678, "s3://b/check.html", "s3://b/check.csv")  # fmt: skip


class Text(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags = [], []
        self.feed(page)

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_furthest_off_come_first():
    assert [r.case for r in attention_order(RECORDS)] == ["b", "a", "<script>", "c", "d"]


def test_remarks_are_no_reasons():
    assert reasons(SHIFTED) == ["origin_mismatch"]
    assert reasons(SOUND) == []


def test_csv_has_all_codes_and_no_formula():
    rows = list(csv.DictReader(io.StringIO(check_csv([SHIFTED, record("=1+1")]), newline="")))
    assert rows[0]["codes"] == "origin_mismatch unit_unknown"
    assert rows[0]["residual_mm"] == "5.0000"
    assert rows[1]["case"] == "'=1+1"


def test_rows_are_json():
    rows = json.loads(json.dumps(check_rows(RECORDS)))
    assert rows[0]["fixed"] == "mask: reorient"
    assert rows[3]["residual_mm"] is None


def test_markdown_shows_what_is_doubtful_and_how_much_more_there_is():
    table = check_markdown(attention_order(RECORDS), 2)
    assert "`b`" in table
    assert "`d`" not in table
    assert "2 more cases are in `check.csv`" in table
    assert check_markdown([SOUND]) == "Every case passes.\n"


def test_the_page_says_what_is_wrong_and_what_to_do():
    image = np.random.default_rng(0).normal(size=(20, 20, 20))
    png = overlay_png(image, (image > 1).astype(np.uint8), (1, 1, 1))
    page = check_html(summary(RECORDS), RECORDS, {"b": png}, {"Images": "s3://x/<b>"})
    shown = Text(page)
    text = " ".join(" ".join(shown.words).split())
    assert "4 of 5 cases need a look" in text
    assert "Found found origin_mismatch ; wanted wanted ." in text
    assert "--remedies resample-mask" in text
    assert "12.3 MB" in text
    assert "mask: reorient" in text
    assert text.index("found origin_mismatch") < text.index("found content_doubtful")
    assert sum(tag == "img" for tag, _ in shown.tags) == 1
    assert "<script>" in shown.words  # as text, not as a tag
    assert sum(tag == "script" for tag, _ in shown.tags) == 1


def test_a_page_of_sound_cases_and_one_of_none():
    assert "All 2 cases pass" in check_html(summary([SOUND] * 2), [SOUND] * 2, {}, {})
    assert "No case was found" in check_html(summary([]), [], {}, {})


@pytest.mark.parametrize(("kind", "most"), [("fail", MAX_DOUBTFUL), ("pass", MAX_ROWS)])
def test_a_page_stays_small(kind, most):
    many = [record(f"case-{i:05d}", kind, finding("x", kind)) for i in range(most + 7)]
    page = check_html(summary(many), many, {}, {})
    assert page.count("case-0") == most
    assert "7 more cases" in " ".join(page.split())
