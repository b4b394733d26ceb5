"""Pictures, legends and tables show the names of labels, not their numbers."""

import csv
import io

import numpy as np
from cohorts import write_tiny
from command_line import cli
from PIL import Image

from unet_pipeline.records import CaseRecord
from unet_pipeline.report.overlay import _LEGEND_Y, overlay_png
from unet_pipeline.report.table import cases_csv, dice_sentence, name_of, table_rows
from unet_pipeline.storage.store import Store

NAMES = {"0": "background", "1": "spleen", "2": "liver", "3": "liver"}
RECORD = CaseRecord("a", "done", dice={"1": 0.5, "2": 0.25, "3": 0.75, "9": 1.0})


def test_tables_name_labels_and_keep_the_number_where_a_name_is_not_enough():
    assert [name_of(label, NAMES) for label in "1239"] == ["spleen", "liver (2)", "liver (3)", "9"]
    (row,) = csv.DictReader(io.StringIO(cases_csv([RECORD], names=NAMES)))
    found = [row[f"dice_{name}"] for name in ("spleen", "liver (3)", "9")]
    assert found == ["0.5000", "0.7500", "1.0000"]
    (row,) = table_rows([RECORD], NAMES)
    assert (row["dice_spleen"], row["dice_liver (2)"]) == (0.5, 0.25)
    assert dice_sentence({"1": 0.5, "9": 1.0}, NAMES) == "spleen: 0.500, label 9: 1.000"


def test_the_legend_of_a_picture_shows_names():
    """The name takes more room than the number, and another name another."""
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:10, 5:15, 5:15] = 1
    image = np.random.default_rng(0).normal(0, 1, labels.shape)

    def legend(names):
        png = overlay_png(image, labels, (1, 1, 1), names=names)
        bright = (
            np.asarray(Image.open(io.BytesIO(png)).convert("L"))[_LEGEND_Y - 6 : _LEGEND_Y + 7] > 60
        )
        return np.flatnonzero(bright.any(axis=0)).max(initial=0)

    number = legend({})
    assert number < legend({1: "spleen"}) < legend({1: "spleen and the rest"})
    assert legend({1: "x" * 500}) < 400  # cut
    assert legend({1: "a\nb\x1b[31m"}) > number


def test_a_run_shows_names_on_its_page_in_its_table_and_in_the_terminal(tmp_path):
    write_tiny(Store(), str(tmp_path), 1)
    done = cli(
        "segment", tmp_path / "images", "--masks", tmp_path / "masks", "--model", "phantom",
        "--output", tmp_path / "out", "--cluster", "serial",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "out").rglob("cases.csv")
    (page,) = (tmp_path / "out").rglob("report.html")
    columns = table.read_text().splitlines()[0].split(",")
    labels = [name.removeprefix("dice_") for name in columns if name.startswith("dice_")]
    assert labels
    assert not any(name.isdigit() for name in labels)
    for name in labels:
        assert f"{name}: " in done.stdout
        assert f"Dice <bdi>{name}</bdi>" in page.read_text()
