"""Scores of several candidates side by side: what counts where a label is absent, groups, tests."""

import numpy as np
import pytest
import scipy.stats

from unet_pipeline.evaluation.scores import LabelScore
from unet_pipeline.evaluation.statistics import Bootstrap
from unet_pipeline.evaluation.table import score_table

BOOTSTRAP = Bootstrap(resamples=200)


def dice_only(**cases):
    return {name: {1: LabelScore(dice=value)} for name, value in cases.items()}


def test_only_cases_that_all_have_take_part():
    table = score_table({"a": dice_only(x=0.9, y=0.8), "b": dice_only(y=0.7, z=0.6)}, [1])
    assert table.cases == ("y",)
    assert table.dice_of("a") == [0.8]
    assert table.dice_of("b") == [0.7]


def test_a_label_that_only_one_finds_by_mistake():
    """Label 2 is not in the mask: who finds it has 0, who does not has 1. Nobody has label 3."""
    right = {"x": {1: LabelScore(0.8, 0.7, 0.9, 2.0), 2: LabelScore(), 3: LabelScore()}}
    wrong = {
        "x": {1: LabelScore(0.8, 0.7, 0.9, 2.0), 2: LabelScore(0, 0, 0, None), 3: LabelScore()}
    }
    table = score_table({"right": right, "wrong": wrong}, [1, 2, 3])
    assert table.dice_of("right") == pytest.approx([0.9])  # of 0.8 and 1
    assert table.dice_of("wrong") == pytest.approx([0.4])  # of 0.8 and 0
    assert table.per_case("hd95_mm") == pytest.approx(np.array([[2.0], [2.0]]))


def test_a_distance_counts_where_every_candidate_has_one():
    found = {"x": {1: LabelScore(0.9, 0.8, 1.0, 3.0)}, "y": {1: LabelScore(0.9, 0.8, 1.0, 5.0)}}
    missed = {"x": {1: LabelScore(0, 0, 0, None)}, "y": {1: LabelScore(0.9, 0.8, 1.0, 4.0)}}
    table = score_table({"found": found, "missed": missed}, [1])
    assert table.metrics("found", BOOTSTRAP)["hd95_mm"].value == 5.0
    assert table.metrics("missed", BOOTSTRAP)["hd95_mm"].value == 4.0
    assert table.dice_of("missed") == pytest.approx([0.0, 0.9])


def test_a_case_without_any_label_has_no_dice():
    table = score_table({"a": {"x": {1: LabelScore()}, "y": {1: LabelScore(dice=0.5)}}}, [1])
    assert np.isnan(table.dice_of("a")[0])
    assert table.metrics("a", BOOTSTRAP)["dice"].value == 0.5
    assert table.metrics_per_label("a", BOOTSTRAP)["1"]["iou"] is None


def test_seeds_of_one_network_are_averaged_case_by_case():
    table = score_table(
        {"u/1": dice_only(x=0.8, y=0.6), "u/2": dice_only(x=0.9, y=0.8), "v": dice_only(x=1, y=1)},
        [1],
    ).grouped({"u": ["u/1", "u/2"], "v": ["v"]})
    assert table.candidates == ("u", "v")
    assert table.dice_of("u") == pytest.approx([0.85, 0.7])


def test_tests_are_paired_and_corrected():
    rng = np.random.default_rng(0)
    base = rng.beta(40, 6, size=12)
    names = [f"c{index:02d}" for index in range(12)]
    others = {"near": base + rng.normal(0, 0.002, 12), "far": base - 0.05}
    scores = {
        name: dice_only(**dict(zip(names, values, strict=True)))
        for name, values in {"base": base, **others}.items()
    }
    table = score_table(scores, [1])
    near, far = table.compare([("near", "base"), ("far", "base")], BOOTSTRAP)
    assert near.p == scipy.stats.wilcoxon(others["near"] - base).pvalue
    assert far.p == pytest.approx(2 / 2**12)  # all twelve on one side
    assert far.p_holm == pytest.approx(2 * far.p)
    assert near.p_holm == near.p
    assert far.difference.value == pytest.approx(-0.05)
    assert far.difference.high - far.difference.low == pytest.approx(0, abs=1e-12)


def test_where_candidates_differ_most():
    table = score_table({"a": dice_only(x=0.9, y=0.5, z=0.7), "b": dice_only(x=0.8, y=0.9, z=0.7)},
                        [1])  # fmt: skip
    first, second = table.disagreements([("a", "b")], 5)
    assert (first.case, first.dice, first.dice_against) == ("y", 0.5, 0.9)
    assert first.difference == pytest.approx(-0.4)
    assert second.case == "x"
    assert len(table.disagreements([("a", "b")], 1)) == 1


def test_without_any_dice_there_is_nothing_to_test():
    empty = {"x": {1: LabelScore()}}
    table = score_table({"a": empty, "b": empty}, [1])
    assert table.disagreements([("a", "b")], 5) == []
    with pytest.raises(ValueError, match="no case has a Dice"):
        table.compare([("a", "b")], BOOTSTRAP)
