"""Tables, page and picture of an evaluation: what they say, escaped, and without any value."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unet_pipeline.evaluation.records import (
    CandidateResult,
    Comparison,
    DepthChoice,
    Disagreement,
    Evaluation,
    Interval,
    LeftOut,
    ModelCost,
    Remark,
)
from unet_pipeline.records import json_bytes
from unet_pipeline.report.evaluation_page import evaluation_html
from unet_pipeline.report.evaluation_table import (
    case_scores_csv,
    cells,
    evaluation_csv,
    evaluation_markdown,
    evaluation_rows,
    headings,
    headline,
    with_interval,
)
from unet_pipeline.report.speed_plot import HEIGHT, WIDTH, Point, draw_speed, speed_plot

NONE = dict.fromkeys(("dice", "iou", "nsd", "hd95_mm"))


def result(name, dice=0.9, seconds=0.5, difference=None) -> CandidateResult:
    metrics = {**NONE, "dice": Interval(dice, dice - 0.02, dice + 0.02)}
    cost = ModelCost(1_746_803, 7_370_000_000, 5.5, 90.0, seconds, 2 * seconds)
    return CandidateResult(name, cost, metrics, {"1": metrics, "10": NONE, "2": NONE}, difference)


CHOICE = DepthChoice(1, 2, 0.005, 0.95, (0.0026, 0.0), (0.75, 0.25))
DEPTHS = Evaluation(
    kind="depths", run_id="20261121T013000Z-3f2a", against="L2", cases=12, surface_mm=1.0,
    confidence=0.95, resamples=2000,
    results=(result("L1", 0.9, 0.5, Interval(-0.0013, -0.0029, 0.0002)), result("L2", 0.901)),
    disagreements=(Disagreement("<script>", "L1", "L2", 0.8, 0.9),),
    remarks=(Remark("few_cases", "There are only 12 cases"),),
    left_out=(LeftOut("=cmd", "origin_mismatch", "=cmd: found <b>; wanted more. Do it."),),
    seconds=75.0, folder="s3://b/runs/1", choice=CHOICE, bundles={"m-L1": "s3://b/runs/1/m-L1"},
    names={"1": "liver", "2": "=cyst"},
)  # fmt: skip
COMPARED = replace(
    DEPTHS, kind="compare", choice=None, bundles={}, against="a",
    results=(result("a"), result("=b", 0.85, 0.1)),
    comparisons=(Comparison("=b", "a", Interval(-0.05, -0.06, -0.04), 0.001, 0.002),),
)  # fmt: skip


def test_people_read_a_row_per_candidate():
    first, second = cells(DEPTHS)
    assert headings(DEPTHS)[:4] == ["depth", "Dice", "less L2", "NSD at 1 mm"]
    assert first == [
        "L1 (chosen)", "0.900 (0.880 to 0.920)", "-0.0013 (-0.0029 to +0.0002)", "", "",
        "1,746,803", "7.37 G", "90.0", "1.00",
    ]  # fmt: skip
    assert second[2] == ""
    assert cells(COMPARED)[0][6] == "40.5 G"  # 5.5 windows of 7.37 G
    assert headings(COMPARED)[6] == "multiply-adds per case"


def test_the_result_in_one_sentence():
    assert headline(DEPTHS) == "L1 is enough: at most 0.0026 Dice below L2 with 95% confidence"
    best = replace(DEPTHS, choice=replace(CHOICE, depth=2))
    assert headline(best).startswith("L2 is the best depth")
    assert headline(COMPARED) == "=b is worse than a by 0.0500 Dice"
    chance = replace(COMPARED.comparisons[0], p_holm=0.2)
    assert "chance" in headline(replace(COMPARED, comparisons=(chance,)))


def test_the_table_for_machines():
    first, second = csv.DictReader(io.StringIO(evaluation_csv(DEPTHS)))
    assert (first["entrant"], first["chosen"], first["cases"]) == ("L1", "yes", "12")
    assert (first["dice"], first["dice_low"], first["dice_liver_high"]) == ("0.90000", "0.88000",
                                                                       "0.92000")  # fmt: skip
    assert first["hd95_mm"] == first["dice_'=cyst"] == second["difference"] == ""
    names = list(first)
    assert names.index("dice_'=cyst") < names.index(
        "dice_10"
    )  # labels in the order of their numbers
    assert first["multiply_adds"] == "7370000000"
    assert next(csv.reader(io.StringIO(evaluation_csv(COMPARED).split("\r\n")[2])))[0] == "'=b"


def test_scores_of_cases_for_machines():
    score = {"case": "=x", "entrant": "L1", "label": 2, **NONE, "nsd": 0.5}
    (row,) = csv.DictReader(io.StringIO(case_scores_csv([score], DEPTHS.names)))
    assert row == {"case": "'=x", "entrant": "L1", "label": "2", "name": "'=cyst", "dice": "",
                   "iou": "", "nsd": "0.50000", "hd95_mm": ""}  # fmt: skip


def test_the_result_is_plain_json():
    found = json.loads(json_bytes(DEPTHS.as_dict()))
    assert found["choice"]["shares"] == [0.75, 0.25]
    assert found["report"] == "s3://b/runs/1/report.html"


def test_markdown_and_rows():
    text = evaluation_markdown(COMPARED)
    assert text.startswith("# =b is worse than a")
    assert "| `=b` less `a` | -0.0500 (-0.0600 to -0.0400) | 0.002 |" in text
    assert "`origin_mismatch`" in text
    assert "<script>" not in text
    assert evaluation_rows(DEPTHS)[0]["less L2"] == "-0.0013 (-0.0029 to +0.0002)"
    assert "Bundle `m-L1`: `s3://b/runs/1/m-L1`" in evaluation_markdown(DEPTHS)


@pytest.mark.parametrize("evaluation", [DEPTHS, COMPARED])
def test_the_page_escapes_names_and_holds_its_pictures(evaluation):
    plot = speed_plot(evaluation)
    page = evaluation_html(evaluation, plot, {("L1", "<script>"): plot}, {"Model": "<i>m</i>"})
    assert page.count("data:image/png;base64,") == 2  # the plot, and one of two figures
    assert "&lt;script&gt;" in page
    assert "<i>m</i>" not in page
    assert "found &lt;b&gt;" in page
    assert ("Upper bound of the loss" in page) == (evaluation is DEPTHS)
    assert ("p (Holm)" in page) == (evaluation is COMPARED)
    assert "default-src &#39;none&#39;" in page


def test_a_page_without_a_dice():
    nothing = replace(result("a"), metrics=NONE, labels={})
    bare = replace(COMPARED, results=(nothing,), comparisons=(), disagreements=(), left_out=())
    assert speed_plot(bare) is None
    assert "Speed and Dice" not in evaluation_html(bare, None, {}, {})


def test_the_picture_has_its_points_where_they_belong():
    """The faster one is to the right of the better one, and below; the chosen one is orange."""
    slow = Point("slow", 10.0, Interval(0.9, 0.89, 0.91))
    fast = Point("fast", 40.0, Interval(0.8, 0.79, 0.81), chosen=True)
    image = np.asarray(
        Image.open(io.BytesIO(draw_speed([slow, fast], (0.895, 0.9)))).convert("RGB")
    )
    assert image.shape == (HEIGHT, WIDTH, 3)
    blue, orange = (
        np.argwhere((image == colour).all(axis=2)).mean(axis=0)
        for colour in ((43, 108, 176), (190, 70, 10))
    )
    assert orange[1] > blue[1] + 300
    assert orange[0] > blue[0] + 200
    assert (image == (253, 236, 222)).all(axis=2).any()


def test_a_single_point_can_be_drawn():
    assert draw_speed([Point("only", 3.0, Interval(0.5, 0.5, 0.5))]).startswith(b"\x89PNG")


def test_intervals_in_words():
    assert with_interval(None, 3) == ""
    assert with_interval(Interval(0.5, 0.25, 0.75), 2) == "0.50 (0.25 to 0.75)"
