"""The report of an inspection: table, picture of the network, feature maps, page."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from unet_pipeline.evaluation.layer_records import LayerRecord, LayersSummary, SideRecord
from unet_pipeline.report.feature_maps import MAX_CHANNELS, Slice, feature_sheet
from unet_pipeline.report.layers_page import MAX_FIGURES, layers_html
from unet_pipeline.report.layers_table import deviation, layers_csv, layers_markdown, layers_rows
from unet_pipeline.report.planes import VIEWS
from unet_pipeline.report.u_picture import scale_text, short_name, u_picture

SVG = "{http://www.w3.org/2000/svg}"


def layer(name, lost=None, place=None, scale=(1.0,) * 3, **more) -> LayerRecord:
    cases = () if lost is None else (lost - 0.01, lost + 0.01)
    return LayerRecord(name, "Node", True, (8, 4, 4, 4), scale, 1234, 5678, "encoder",
                       place, lost=lost, lost_cases=cases, **more)  # fmt: skip


FIRST = layer("conv_0_0", 0.5, (0.0, 0.0), feeds=("conv_1_0", "upcat_0_1"),
              probe_dice={"1": 0.5, "10": 0.7, "2": None}, probe_iou={"1": 1 / 3, "10": 0.54},
              lost_labels={"1": 0.5}, lost_groups=(0.1, 0.25))  # fmt: skip
BELOW = layer("conv_1_0", 0.004, (1.0, 1.0), (0.5,) * 3, feeds=("upcat_0_1",))
NODE = layer("upcat_0_1", -0.00001, (2.0, 0.0), feeds=("final_conv_0_1",))
HEAD = layer("final_conv_0_1", None, (2.0, -1.0))
LAYERS = [FIRST, BELOW, NODE, HEAD]
SUMMARY = LayersSummary(
    "20261121T013000Z-3f2a", "mine", ("a",), ("b", "c"),
    ({"case": "<bad>", "code": "mask_missing", "message": "found <nothing>"},),
    {"1": 0.8, "2": None}, 4, (SideRecord("encoder", 2, 10, 20, 0.1, (0.1,)),),
    "Make it <smaller>.", 61.0, "s3://b/layers.csv", "s3://b/layers.html", "s3://b/network.svg",
    names={"1": "<liver>"},
)  # fmt: skip


def test_csv_has_a_line_for_each_layer_and_columns_for_each_label():
    rows = list(
        csv.DictReader(
            io.StringIO(layers_csv([*LAYERS, layer("=1+1")], {"1": "liver"}), newline="")
        )
    )
    assert rows[0]["probe_dice_10"] == "0.7000"
    assert rows[0]["probe_iou_liver"] == "0.3333"
    assert rows[0]["probe_dice"] == "0.6000"
    assert rows[0]["dice_lost_groups"] == "0.1000 0.2500"
    assert rows[0]["probe_dice_2"] == ""
    assert rows[1]["scale"] == "1/2"
    assert rows[4]["layer"] == "'=1+1"
    columns = list(rows[0])
    assert columns.index("probe_dice_2") < columns.index("probe_dice_10")


def test_rows_are_json_and_markdown_has_them_all():
    rows = json.loads(json.dumps(layers_rows(LAYERS, {"1": "liver"})))
    assert rows[0]["probe_dice_liver"] == 0.5
    assert rows[3]["dice_lost"] is None
    assert layers_markdown(LAYERS).count("\n") == 6


def test_the_deviation_is_that_over_cases():
    assert deviation(FIRST) == pytest.approx(0.02 / 2**0.5)
    assert deviation(HEAD) is None


@pytest.mark.parametrize(
    ("scale", "text"),
    [((1.0,) * 3, "1"), ((0.25,) * 3, "1/4"), ((0.5, 0.5, 1.0), "1/2 x 1/2 x 1"),
     ((0.333333,) * 2, "1/3"), ((2.0,) * 3, "2"), ((0.7,), "0.7")],
)  # fmt: skip
def test_scales_in_words(scale, text):
    assert scale_text(scale) == text


def test_names_fit_into_a_box():
    assert short_name("upcat_0_4") == "X 0,4"
    assert short_name("conv_3_0") == "X 3,0"
    assert short_name("final_conv_0_2") == "head 2"
    assert short_name("decoder.0") == "decoder.0"
    assert len(short_name("model.1.submodule.1.submodule.2")) == 12


def shown(svg):
    tree = ET.fromstring(svg)
    boxes = {}
    for group in tree.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        texts = [text.text for text in group.iter(f"{SVG}text")]
        boxes[group.find(f"{SVG}title").text.split()[0]] = rect.attrib, texts
    return tree, boxes


def test_the_picture_has_a_box_for_each_block_coloured_by_what_is_lost():
    tree, boxes = shown(u_picture(LAYERS, {"conv_0_0": 1, "upcat_0_1": 3}))
    assert list(boxes) == [one.layer for one in LAYERS]
    assert boxes["conv_0_0"][1] == ["1 X 0,0", "lost 0.500", "probe 0.600"]
    assert boxes["upcat_0_1"][1] == ["3 X 0,1", "lost 0.000"]
    assert boxes["final_conv_0_1"][1] == ["head 1"]
    fills = [box["fill"] for box, _ in boxes.values()]
    assert len(set(fills)) == 4
    assert fills[3] == "none"
    assert len([p for p in tree.iter(f"{SVG}path") if p.get("class") == "edge"]) == 4
    labels = [t.text for t in tree.iter(f"{SVG}text") if t.get("class") == "soft"]
    assert labels[:3] == ["heads", "1", "1/2"] or set(labels[:3]) == {"heads", "1", "1/2"}


def test_boxes_of_one_row_do_not_touch_and_lie_inside():
    blocks = [replace(FIRST, layer=f"b{i}", place=(float(i), float(i % 2)), feeds=())
              for i in range(30)]  # fmt: skip
    tree, boxes = shown(u_picture(blocks, {}))
    width, height = float(tree.get("width")), float(tree.get("height"))
    places = sorted((float(b["y"]), float(b["x"]), float(b["width"])) for b, _ in boxes.values())
    for (y, x, w), (y2, x2, _) in pairwise(places):
        assert y != y2 or x + w < x2
    assert all(x + w <= width and y + 60 < height for y, x, w in places)


AXIAL = Slice(VIEWS[0], 3, ("R", "A", "S"), (1.0, 1.0, 2.0))


def test_a_sheet_shows_the_slice_that_was_asked_for():
    """A channel of half the resolution whose value is its slice: slice 3 of 8 is slice 1 of 4."""
    features = np.broadcast_to(np.arange(4.0), (4, 4, 4))[None].copy()
    assert AXIAL.of(features[0], 8).tolist() == [[1.0] * 4] * 4
    assert Slice(VIEWS[0], 3, ("R", "A", "I"), (1, 1, 1)).of(features[0], 8)[0, 0] == 1.0


def test_the_patients_right_is_on_the_left():
    image = np.zeros((8, 8, 8))
    image[7, :, :] = 1.0  # axis 0 grows to the right
    assert AXIAL.of(image, 8)[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_a_sheet_has_all_channels_or_those_that_vary_most():
    made = np.random.default_rng(0)
    image, labels = made.normal(size=(8, 8, 8)), np.zeros((8, 8, 8), np.int16)
    few = feature_sheet(image, labels, made.normal(size=(3, 4, 4, 4)), AXIAL, "layer")
    many = feature_sheet(image, labels, made.normal(size=(200, 4, 4, 4)), AXIAL, "layer")
    sizes = [Image.open(io.BytesIO(png)).size for png in (few, many)]
    rows = -(-(MAX_CHANNELS + 1) // 9)
    assert sizes[1][0] == sizes[0][0]
    assert (sizes[1][1] - 26) == rows * (sizes[0][1] - 26)


def test_each_channel_is_scaled_by_itself():
    image, labels = np.zeros((8, 8, 8)), np.zeros((8, 8, 8), np.int16)
    ramp = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 8, 8))
    maps = np.stack([ramp, 1e6 * ramp - 5, np.full((8, 8, 8), 3.0)])
    sheet = np.array(Image.open(io.BytesIO(feature_sheet(image, labels, maps, AXIAL, "x"))))
    cells = [sheet[26 + 40 : 26 + 100, 6 + i * 114 + 20 : 6 + i * 114 + 104] for i in (1, 2, 3)]
    assert np.array_equal(cells[0], cells[1])
    assert cells[0].std() > 50
    assert cells[2].std() == 0


def test_the_page_has_everything_and_escapes_it():
    svg = u_picture(LAYERS, {})
    page = layers_html(SUMMARY, LAYERS, svg, [("conv_0_0, axial 3", b"png")] * 2, {"Model": "m<x>"})
    assert "Make it &lt;smaller&gt;." in page
    assert "&lt;bad&gt;" in page
    assert "<bad>" not in page
    assert page.count("<bdi>&lt;liver&gt;</bdi>") == 3
    assert "Label <bdi>2</bdi>" in page
    assert page.count("data:image/png") == 2
    assert page.count("data:image/svg+xml;base64,") == 1
    assert "-0.0000" not in page
    assert "0.8000" not in page
    assert "style=" not in page  # the page's own policy would refuse it
    many = layers_html(SUMMARY, LAYERS, svg, [("x", b"png")] * (MAX_FIGURES + 2), {})
    assert "2 more pictures" in many
