"""Which label maps want a look: by eye, silent where little is known, stable under bad cases."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.evaluation.doubts import LEAST_CASES
from unet_pipeline.evaluation.review import DOUBTFUL, review
from unet_pipeline.records import CaseRecord


def of(ml=20.0, place_mm=0.0, **changes):
    """Statistics of a label that is usual, but for the changes."""
    usual = {
        "voxels": int(100 * ml), "volume_ml": ml, "parts": 1, "largest_part": 1.0,
        "centroid_x_mm": place_mm, "centroid_y_mm": 0.0, "centroid_z_mm": 0.0,
        "x_min_mm": place_mm - 15, "x_max_mm": place_mm + 15, "y_min_mm": -10, "y_max_mm": 10,
        "z_min_mm": -10, "z_max_mm": 10, "cut": "",
    }  # fmt: skip
    return {**usual, **changes}


ABSENT = {"voxels": 0, "volume_ml": 0.0}


def cohort(*others, count=30):
    """Usual cases that vary a little, and others."""
    vary = np.random.default_rng(0).uniform
    usual = [
        {"1": of(20 * vary(0.9, 1.1), -40 + vary(-3, 3)),
         "2": of(5 * vary(0.9, 1.1), 40 + vary(-3, 3))}
        for _ in range(count)
    ]  # fmt: skip
    return [CaseRecord(f"usual {i:02}", "done", statistics=s) for i, s in enumerate(usual)] + [
        CaseRecord(f"odd {i}", "done", statistics=s) for i, s in enumerate(others)
    ]


def found_for(statistics):
    (one,) = [each for each in review(cohort(statistics)) if each.case == "odd 0"]
    return one


def test_a_usual_cohort_has_nothing_to_look_at():
    assert review(cohort()) == []


def test_a_label_that_is_much_too_small():
    doubt = found_for({"1": of(3.0, -40), "2": of(5.0, 40)}).doubts[0]
    assert doubt.label == "1"
    assert doubt.what.startswith("volume 3 ml, usually ")
    assert doubt.score > 10


def test_one_case_is_held_against_those_of_earlier_nights():
    tonight = [CaseRecord("now", "done", statistics={"1": of(3.0, -40), "2": of(5.0, 40)})]
    before = cohort({"1": of(2.0, -40), "2": of(5.0, 40)})
    assert review(tonight) == []
    (found,) = review(tonight, others=before)  # what is odd in an earlier case was said then
    assert found.case == "now"
    assert found.doubts[0].what.startswith("volume 3 ml, usually ")


def test_a_label_that_is_absent_comes_first():
    odd = {"1": ABSENT, "2": of(5.0, 40)}
    ranked = review(cohort({"1": of(9.0, -40), "2": of(5.0, 40)}, odd))
    assert [one.case for one in ranked] == ["odd 1", "odd 0"]
    assert ranked[0].doubts[0].what == "absent, in 31 cases it is there"


def test_a_label_that_many_lack_is_not_missed():
    others = [{"1": of(20, -40), "2": ABSENT} for _ in range(10)]
    assert review(cohort(*others)) == []


def test_left_and_right_exchanged():
    found = found_for({"1": of(20.0, 40), "2": of(5.0, -40)})
    assert {doubt.label for doubt in found.doubts} == {"1", "2"}
    assert all("right of the middle" in doubt.what for doubt in found.doubts)


def test_a_label_in_parts():
    doubt = found_for({"1": of(20.0, -40, largest_part=0.6, parts=2), "2": of(5.0, 40)}).doubts[0]
    assert doubt.what.startswith("share outside of its largest part 40%, usually ")


def test_a_label_where_nothing_was_scanned():
    records = [replace(one, statistics={label: {**values, "padding": 0.01}
                                        for label, values in one.statistics.items()})
               for one in cohort()]  # fmt: skip
    odd = {"1": of(20.0, -40, padding=0.3), "2": of(5.0, 40, padding_0=0.0, padding_1=0.1)}
    (found,) = review([*records, CaseRecord("odd", "done", statistics=odd)])
    (doubt,) = found.doubts
    assert doubt.label == "1"
    assert doubt.what == "share outside of what was scanned 30%, usually 1% to 1%"


def test_a_label_that_is_cut_is_not_called_small():
    assert review(cohort({"1": of(3.0, -40, cut="S"), "2": of(5.0, 40)})) == []


def test_nothing_is_said_of_few_cases():
    few = cohort({"1": of(0.1, -40), "2": of(5.0, 40)}, count=LEAST_CASES - 2)
    assert review(few) == []
    assert review(cohort({"1": of(0.1, -40), "2": of(5.0, 40)}, count=LEAST_CASES))


@settings(max_examples=30)
@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=8))
def test_a_few_bad_cases_make_no_other_one_doubtful(volumes_ml):
    ranked = review(cohort(*({"1": of(ml, -40), "2": of(5.0, 40)} for ml in volumes_ml)))
    assert not [one.case for one in ranked if one.case.startswith("usual")]
    assert all(one.score >= DOUBTFUL for one in ranked)


def test_records_of_before_and_quarantined_ones_are_left_out():
    assert review([CaseRecord("old", "skipped"), CaseRecord("bad", "quarantined")] * 20) == []


def sure(value, border=0.8, **predicted):
    return of(confidence=value, confidence_border=border, **predicted)


def sure_cohort(*others):
    vary = np.random.default_rng(1).uniform
    usual = [
        CaseRecord(f"usual {i:02}", "done", statistics={"1": sure(
            0.9 + vary(-0.02, 0.02), predicted_dice=0.85 + vary(-0.02, 0.02),
            predicted_dice_low=0.78, predicted_dice_high=0.92)})
        for i in range(30)
    ]  # fmt: skip
    return usual + [CaseRecord("odd", "done", statistics={"1": one}) for one in others]


def test_confidence_that_is_lower_than_that_of_the_others():
    (one,) = review(sure_cohort(sure(0.7)))
    assert one.doubts[0].what.startswith("confidence 0.70, usually 0.8")
    assert review(sure_cohort(sure(0.99, 0.99))) == []


def test_a_predicted_dice_that_is_far_below_the_usual_one():
    """By its own interval: one that may as well be usual is no reason."""
    poor = {"predicted_dice": 0.61, "predicted_dice_low": 0.48, "predicted_dice_high": 0.7}
    (one,) = review(sure_cohort(sure(0.9, **poor)))
    assert one.doubts[0].what.startswith("predicted Dice 0.61 (0.48 to 0.70), usually 0.8")
    assert review(sure_cohort(sure(0.9, **{**poor, "predicted_dice_high": 0.9}))) == []
