import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from browsing import BROWSER, browser
from PIL import Image

from unet_pipeline.errors import CaseError
from unet_pipeline.records import CaseRecord, Rate, RunCost, RunSummary
from unet_pipeline.report import page
from unet_pipeline.report.methods import Methods
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.report.page import report_html

SUMMARY = RunSummary(
    run_id="20261121T013000Z-3f2a",
    counts={"done": 2, "skipped": 1, "quarantined": 1},
    mean_dice={"10": 0.5, "2": 0.75},
    seconds=71.2,
    cases_per_minute=1.69,
    forward_share=0.834,
    report="s3://archive/out/runs/20261121T013000Z-3f2a/report.html",
    table="s3://archive/out/runs/20261121T013000Z-3f2a/cases.csv",
    cost=RunCost(
        cases=2,
        windows=16,
        workers=2,
        wall_seconds=71.2,
        worker_seconds=142.4,
        device_seconds=118.8,
        busy_share=0.834,
        stage_seconds={"read": 5.0, "infer": 120.0, "forward": 118.8, "wait": 9.0, "total": 140.0},
        bytes_read=34_500_000,
        bytes_written=1_230_000,
        cases_per_hour=101.1,
        rate=Rate(1.2, "EUR"),
        price=0.04747,
        price_per_case=0.023735,
    ),
)
_ERROR = CaseError(
    "mask_off_grid",
    found="a mask 12.4 mm away, St. Elsewhere",
    wanted="at most 0.5 mm",
    remedy="Export the mask again",
    subject="lost",
)
RECORDS = [
    CaseRecord("good", "done", dice={"2": 0.9, "10": 0.6}, seconds={"total": 2.25}, windows=8),
    CaseRecord("poor", "done", dice={"2": 0.6, "10": None}, output="s3://archive/poor.nii.gz"),
    CaseRecord("old", "skipped"),
    CaseRecord("lost", "quarantined", code=_ERROR.code, message=str(_ERROR)),
]
CONTEXT = {"Model": "hippocampus", "Images": "s3://archive/images"}
HOSTILE = (
    "\"><script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>{{ 7*7 }}"
)


class Page(HTMLParser):
    """Tags with their attributes, the text of each element, and whether all tags are closed."""

    VOID = frozenset({"meta", "img", "rect"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self):
        shown = (data for tag, data in self.texts if tag not in ("script", "style", "title"))
        return re.sub(r"\s+", " ", " ".join(shown))


@pytest.fixture(scope="module")
def png():
    labels_XYZ = np.zeros((12, 12, 12), np.uint8)
    labels_XYZ[3:8, 3:8, 3:8] = 1
    return overlay_png(np.arange(12**3).reshape(12, 12, 12), labels_XYZ, (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def html(png):
    return report_html(SUMMARY, RECORDS, {"good": png, "poor": png, "unknown": png}, CONTEXT)


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


def page_of(records, pictures=None, context=None, **changes):
    """The page of some records, with ``changes`` to the summary."""
    return Page(report_html(replace(SUMMARY, **changes), records, pictures or {}, context or {}))


def test_headline(parsed):
    text = parsed.text()
    assert "2026-11-21 01:30 UTC" in text
    assert "1 of 4 cases need a look" in text
    assert "Done 2" in text
    assert "Skipped unchanged since an earlier run 1" in text
    assert "Quarantined no label map written 1" in text
    assert "Mean Dice over labels 0.625" in text
    assert "Cases per minute 1.7" in text
    assert "Forward share of the workers\u2019 time 83 %" in text
    assert "Wall time 1 min 11 s" in text
    assert "Price of all workers\u2019 time 0.047 EUR" in text
    assert "Label 2 0.750 Label 10 0.500" in text
    assert "Model hippocampus Images s3://archive/images" in text


def test_the_headline_counts_the_label_maps_to_look_at():
    done = [one for one in RECORDS if one.status != "quarantined"]
    sound = {"done": 2, "skipped": 1, "quarantined": 0}
    assert "4 cases need a look, and 1 label map wants one" in page_of(RECORDS, to_review=1).text()
    text = page_of(done, counts=sound, to_review=2).text()
    assert "All 3 cases have a label map, 2 to look at first" in text


def test_cost(parsed):
    text = parsed.text().split("Cost In the network")[1]
    assert text.startswith(" 1 min 59 s, 16 windows")
    assert "2 min 22 s (2 workers for 1 min 11 s); devices were busy 83 %" in text
    assert "Cases per hour 101" in text
    assert "34.5 MB read, 1.23 MB written" in text
    assert "Price 0.047 EUR, 0.024 EUR a case, at 1.20 EUR an hour of a worker" in text
    assert "Read and decode 5.0 s Around the network 1.2 s Network 1 min 59 s" in text
    assert "cases waited 9.0 s" in text


def test_without_a_rate_no_price_is_shown():
    cost = replace(SUMMARY.cost, rate=None, price=None, price_per_case=None)
    assert "Price" not in page_of(RECORDS, cost=cost).text()


def test_a_quarantined_case_has_code_sentence_and_remedy(parsed):
    text = parsed.text()
    assert (
        "lost mask_off_grid Found a mask 12.4 mm away, St. Elsewhere; wanted at most 0.5 mm."
        in text
    )
    assert "What to do: Export the mask again." in text
    assert text.index("mask_off_grid") < text.index("Mean Dice per label") < text.index("good")


def test_a_message_of_another_form_is_shown_whole():
    record = CaseRecord("x", "quarantined", code="timeout", message="no answer in 60 min. Sorry.")
    text = page_of([record]).text()
    assert "x timeout No answer in 60 min. Sorry." in text
    assert "What to do" not in text


def test_worst_dice_comes_first_in_pictures_and_table(parsed):
    alts = [image["alt"] for image in parsed.all("img")]
    assert ["poor" in alt for alt in alts] == [True, False]
    table = parsed.text().split("Worst Dice first. Seconds")[1]
    assert table.index("poor") < table.index("good") < table.index("old")
    assert "poor done 0.600 0.600 \u2013 \u2013 s3://archive/poor.nii.gz" in table
    assert "good done 0.750 0.900 0.600 2.2" in table


def test_pictures_are_in_the_page(parsed, png):
    sources = [image["src"] for image in parsed.all("img")]
    assert len(sources) == 2
    assert len(sources[0]) < len(png)
    shown, stored = (
        np.asarray(Image.open(BytesIO(data)).convert("RGB"), int)
        for data in (base64.b64decode(sources[0].removeprefix("data:image/webp;base64,")), png)
    )
    assert np.abs(shown - stored).mean() < 5


def test_the_page_asks_no_other_place_for_anything(html, parsed):
    for _, attrs in parsed.tags:
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith(("#", "./"))
        assert not attrs.keys() & {"srcset", "style", "action", "onclick", "onload"}
    assert not {tag for tag, _ in parsed.tags} & {"link", "iframe", "object", "form", "base"}
    inline = "".join(re.findall(r"<(?:style|script)>(.*?)</", html, re.DOTALL))
    assert len(inline) > 1000
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch|XMLHttp|import\(", inline)


def test_the_policy_allows_this_style_and_script_and_nothing_else(html, parsed):
    policy = next(m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_names_are_text(png):
    harmless = page_of(RECORDS[:1] + RECORDS[3:], {"good": png}, CONTEXT)
    done = replace(RECORDS[0], case=HOSTILE, output=HOSTILE)
    bad = replace(RECORDS[3], case=HOSTILE + "2", code=HOSTILE, message=HOSTILE)
    context = {HOSTILE: HOSTILE, "b": "c"}
    made = page_of([done, bad], {HOSTILE: png}, context, run_id=HOSTILE, table=HOSTILE)
    assert [tag for tag, _ in made.tags if tag in ("script", "img")] == [
        tag for tag, _ in harmless.tags if tag in ("script", "img")
    ]
    assert not [attrs for _, attrs in made.tags if "onerror" in attrs]
    assert HOSTILE in made.text()
    assert all(attrs.get("href", "#").startswith(("#", "./")) for _, attrs in made.tags)


def test_a_hostile_label_is_text():
    dice = {HOSTILE: 0.5}
    made = page_of([CaseRecord("x", "done", dice=dice)], mean_dice=dice)
    assert not made.all("img")
    assert HOSTILE in made.text()


def test_a_name_that_is_no_utf8_can_be_written():
    html = report_html(SUMMARY, [CaseRecord("scan\udcff", "done")], {}, {})
    assert "scan&lt;U+DCFF&gt;" in html.encode("utf-8").decode()


def test_for_those_who_do_not_see_the_page(parsed):
    assert parsed.all("html")[0]["lang"] == "en"
    assert all(heading["scope"] in ("col", "row") for heading in parsed.all("th"))
    assert all(image["alt"] for image in parsed.all("img"))
    names = {attrs["id"] for _, attrs in parsed.tags if "id" in attrs}
    targets = {attrs["href"][1:] for attrs in parsed.all("a") if attrs["href"].startswith("#")}
    labels = {attrs["aria-labelledby"] for _, attrs in parsed.tags if "aria-labelledby" in attrs}
    assert targets | labels <= names
    assert [tag for tag, _ in parsed.tags if tag in ("h1", "h2", "h3")][:3] == ["h1", "h2", "h3"]


def luminance(colour):
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_and_dark(html):
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for text."""
    schemes = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", scheme))
        for ink, papers in {
            "ink": ("paper", "card", "alarm-paper"),
            "soft": ("paper", "card"),
            "link": ("paper",),
            "alarm": ("alarm-paper",),
        }.items():
            for paper in papers:
                lights = sorted(luminance(colours[name]) for name in (ink, paper))
                assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, (ink, paper)


def test_a_run_without_any_case():
    text = page_of([], counts={}, mean_dice={}, seconds=0.4).text()
    assert "No case was found" in text
    assert "No case was quarantined." in text
    assert "No case has a label map." in text
    assert "Pictures" not in text
    assert "Wall time 0.4 s" in text


def test_a_run_without_masks():
    records = [CaseRecord("a", "done", seconds={"total": 1.0}), CaseRecord("b", "done")]
    text = page_of(records, counts={"done": 2}, mean_dice={}, seconds=7260).text()
    assert "All 2 cases have a label map" in text
    assert "Dice" not in text
    assert "Wall time 2 h 1 min" in text


def a_case_of_many(index, labels):
    """Every tenth is quarantined; the Dice of the others grows with their number."""
    name = f"case-{index:04d}"
    if index % 10 == 0:
        message = "found 0 bytes; wanted a file. Copy it again."
        return CaseRecord(name, "quarantined", code="truncated", message=message)
    return CaseRecord(name, "done", dice=dict.fromkeys(labels, index / 5000))


def test_a_large_cohort_makes_a_small_page(png):
    labels = [str(label) for label in range(1, 62)]
    records = [a_case_of_many(index, labels) for index in range(5000)]
    summary = replace(SUMMARY, counts={"done": 4500, "quarantined": 500})
    html = report_html(summary, records, {record.case: png for record in records}, {})
    assert len(html) < 1_000_000 + page.MAX_FIGURES * len(png) * 4 / 3
    parsed = Page(html)
    text = parsed.text()
    assert "500 of 5,000 cases need a look" in text
    assert f"{500 - page.MAX_QUARANTINED} more quarantined cases are in cases.csv" in text
    assert f"{5000 - page.MAX_FIGURES:,} more pictures" in text
    assert "53 more labels are in cases.csv" in text
    assert len(parsed.all("tr")) == page.ROWS_AT_ONCE + 1
    assert len(parsed.all("img")) == page.MAX_FIGURES
    assert "case-0001" in text
    assert "case-4999" not in text
    assert [row[0][0] for row in all_rows(html)] == [r.case for r in records if r.dice]


def all_rows(html):
    (text,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html)
    return json.loads(text)


def test_a_cohort_beyond_all_bounds(png):
    records = [CaseRecord(f"{index:05d}", "done") for index in range(page.MAX_ROWS + 7)]
    html = report_html(SUMMARY, records, {}, {})
    assert len(all_rows(html)) == page.MAX_ROWS
    assert "7 more cases are in cases.csv" in Page(html).text()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_pages_sorts_and_finds_among_all_cases(tmp_path):
    records = [a_case_of_many(index, ["1", "2"]) for index in range(1, 3001)]
    methods = Methods("Volumes were segmented.", ("A. B. 2020.",))
    html = report_html(SUMMARY, records, {}, {}, methods=methods)
    (tmp_path / "page.html").write_text(html)
    with browser() as chromium:
        shown = chromium.new_page()
        faults = []
        shown.on("pageerror", lambda error: faults.append(str(error)))
        shown.goto((tmp_path / "page.html").as_uri())
        rows = shown.locator("table[data-rows] tbody tr")
        assert rows.count() == page.ROWS_AT_ONCE
        assert rows.first.inner_text().split() == ["case-0001", "done", *["0.000"] * 3, "\u2013"]
        shown.get_by_role("button", name="Mean Dice").click()
        assert rows.first.inner_text().startswith("case-299")
        shown.get_by_role("button", name="Later").click()
        assert shown.locator(".pager [role=status]").first.inner_text() == "101 to 200 of 2,700"
        shown.get_by_label("Find").fill("case-12")
        assert shown.locator(".pager [role=status]").first.inner_text() == "1 to 90 of 90"
        shown.get_by_role("button", name="Copy").click()
        assert shown.evaluate("String(getSelection())").split("\n")[0] == methods.paragraph
        assert shown.locator("[data-copy] + [role=status]").inner_text() == "Copied"
    assert faults == []


@pytest.mark.parametrize("run_id", ["r", "", "20269999T000000Z-x"])
def test_a_run_identifier_without_a_time(run_id):
    assert "UTC" not in report_html(replace(SUMMARY, run_id=run_id), [], {}, {})
