"""Left and right by the names of labels: which names are a pair, and what is said of a case."""

import pytest

from unet_pipeline.evaluation.doubts import Case
from unet_pipeline.evaluation.laterality import Pair, exchanged, pairs_of
from unet_pipeline.evaluation.review import review
from unet_pipeline.records import CaseRecord

KIDNEYS = {"1": "kidney_left", "2": "kidney_right"}
FOUR = KIDNEYS | {"3": "Left-Hippocampus", "4": "Right-Hippocampus"}


def at(x_mm, half_mm=20):
    return {"voxels": 9, "centroid_x_mm": x_mm, "x_min_mm": x_mm - half_mm,
            "x_max_mm": x_mm + half_mm}  # fmt: skip


def case(name, *places_mm):
    return Case(name, {str(label): at(x) for label, x in enumerate(places_mm, 1)})


def said(cases, names=KIDNEYS):
    return [(name, doubt.label, doubt.what) for name, doubt in exchanged(cases, names)]


SOUND = [case(f"sound {i}", -42, 42) for i in range(3)]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("kidney_left", "kidney_right"),
        ("left kidney", "right kidney"),
        ("Left-Hippocampus", "Right-Hippocampus"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"),
        ("rib_left_10", "rib_right_10"),
        ("LeftKidney", "RightKidney"),
        ("ctx-lh-cuneus", "ctx-rh-cuneus"),
        ("Lung_L", "Lung_R"),
    ],
)
def test_names_that_are_a_pair(left, right):
    assert pairs_of({"0": "background", "7": right, "3": left}) == [Pair("3", "7")]


@pytest.mark.parametrize(
    "names",
    [
        ("kidney_left", "kidney"),
        ("kidney_left", "lung_right"),
        ("lung_upper_lobe_left", "lung_lower_lobe_right"),
        ("L_1", "R_1"),
        ("left_to_left", "right_to_left"),
        ("leftover", "rightover"),
        ("kidney_left", "kidney_left", "kidney_right"),
        ("Lung_L", "Lung_RUL"),
    ],
)
def test_names_that_are_none(names):
    assert pairs_of({str(label): name for label, name in enumerate(names, 1)}) == []


def test_an_exchanged_pair_is_named_with_its_distance():
    assert said([*SOUND, case("odd", 42, -42)]) == [
        ("odd", "1", "lies to the right of kidney_right by 84 mm: left and right exchanged?")
    ]
    assert said(SOUND) == []


def test_several_pairs_of_a_case_are_one_reason_by_the_widest():
    cases = [case(f"sound {i}", -42, 42, -25, 25) for i in range(3)]
    assert said([*cases, case("odd", 25, -25, 42, -42)], FOUR) == [
        ("odd", "3", "lies to the right of Right-Hippocampus by 84 mm, and so does 1 more pair: "
         "left and right exchanged?")
    ]  # fmt: skip


def test_a_little_past_each_other_is_not_exchanged():
    """Both take up 40 mm and what lies between: a tenth of it is the least."""
    assert said([*SOUND, case("touching", 2, -2)]) == []
    assert said([*SOUND, case("past", 2.5, -2.5)])[0][0] == "past"


def test_one_that_is_absent_says_nothing():
    absent = {"voxels": 0, "volume_ml": 0.0}
    assert said([*SOUND, Case("one", {"1": at(42), "2": absent}), Case("half", {"1": at(9)})]) == []


def test_what_most_cases_have_is_said_once():
    """Two of four are cases; three of five are the names or the headers."""
    odd = [case(f"odd {i}", 42 + i, -42) for i in range(3)]
    assert [name for name, *_ in said([*SOUND[:2], *odd[:2]])] == ["odd 0", "odd 1"]
    assert said([*SOUND[:2], *odd]) == [
        ("odd 2", "1", "lies to the right of kidney_right by 86 mm, in 3 of 5 cases: "
         "do names or headers exchange sides?")
    ]  # fmt: skip
    assert len(said([*SOUND[:2], *odd], {"2": "kidney_left", "1": "kidney_right"})) == 2


def test_the_list_begins_with_it_and_needs_no_twenty_cases():
    cases = [CaseRecord(one.name, "done", statistics=one.labels)
             for one in [*SOUND, case("odd", 42, -42)]]  # fmt: skip
    (found,) = review(cases, KIDNEYS)
    assert (found.case, found.score) == ("odd", 99.0)
    assert review(cases) == []
