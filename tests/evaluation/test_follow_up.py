"""The last scan of the same subject: which case that is, and which change is unlike the others'."""

import re
from dataclasses import replace

import numpy as np

from unet_pipeline.evaluation.doubts import Case
from unet_pipeline.evaluation.follow_up import LEAST_PAIRS, moved, previous_scans
from unet_pipeline.evaluation.review import review
from unet_pipeline.records import CaseRecord

ODD = "sub-odd/ses-02/anat/sub-odd_ses-02_ct"


def scan(subject, session, ml, **changes):
    labels = {"1": {"voxels": 9, "volume_ml": ml, "cut": "", **changes}}
    name = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_ct"
    return CaseRecord(name, "done", statistics=labels)


def cohort(count=24):
    """Livers of 1,000 to 2,400 ml, whose second scan has 5 % less to 5 % more."""
    sizes_ml, changes = np.linspace(1000, 2400, count), np.linspace(-0.05, 0.05, count)
    return [
        one
        for i, (ml, change) in enumerate(zip(sizes_ml, np.roll(changes, 7), strict=True))
        for one in (scan(f"{i:02}", "01", ml), scan(f"{i:02}", "02", ml * (1 + change)))
    ]


def test_the_scan_of_the_session_before():
    """Of the same kind and run; numbers by their value, and no session or subject, no scan."""
    alone = ["sub-3/ses-1/sub-3_ses-1_ct", "sub-4/sub-4_ct", "a/ses-1/ct", "a/ses-2/ct"]
    mixed = ["sub-5/ses-1/sub-5_ses-2_ct", "sub-5/ses-2/sub-5_ses-1_ct", "sub-6/ses-1", "mises-2"]
    assert previous_scans([
        "sub-1_ses-10_run-1_T1w", "sub-1_ses-2_run-1_T1w", "sub-1_ses-9_run-1_T1w",
        "sub-1_ses-1_run-2_T1w", "sub-1_ses-1_run-1_FLAIR",
        "sub-2/ses-b/sub-2_ses-b_ct", "sub-2/ses-a/sub-2_ses-a_ct", *alone, *mixed,
    ]) == {
        "sub-1_ses-9_run-1_T1w": "sub-1_ses-2_run-1_T1w",
        "sub-1_ses-10_run-1_T1w": "sub-1_ses-9_run-1_T1w",
        "sub-2/ses-b/sub-2_ses-b_ct": "sub-2/ses-a/sub-2_ses-a_ct",
    }  # fmt: skip


def test_a_change_that_is_unlike_the_others():
    """1,210 ml is an ordinary liver: only the last scan says that it is not."""
    assert review(cohort()) == []
    (found,) = review([*cohort(), scan("odd", "01", 1620.0), scan("odd", "02", 1210.0)])
    assert found.case == ODD
    (doubt,) = found.doubts
    assert doubt.what == "volume 1,210 ml, 1,620 ml in ses-01: -25 %, usually -5 % to +4 %"
    assert 5 < doubt.score < 10


def test_a_liver_that_is_cut_in_either_scan_is_not_judged():
    for cut in ({"cut": "S"}, {"cut": ""}), ({"cut": ""}, {"cut": "S"}):
        odd = [scan("odd", f"0{i + 1}", ml, **one)
               for i, (ml, one) in enumerate(zip((1620.0, 1210.0), cut, strict=True))]  # fmt: skip
        assert review([*cohort(), *odd]) == []


def test_nothing_is_said_of_few_pairs():
    odd = [scan("odd", "01", 1620.0), scan("odd", "02", 1210.0)]
    assert review([*cohort(LEAST_PAIRS - 2), *odd]) == []
    assert [one.case for one in review([*cohort(LEAST_PAIRS - 1), *odd])] == [ODD]


def placed(subject, session, places_mm, turn=0.0, **changes):
    """A scan with a label at each place, the patient turned about the long axis, and shifted."""
    cos, sin = np.cos(turn), np.sin(turn)
    turned_mm = np.array(places_mm) @ [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]] + 300 * turn
    labels = {
        str(i + 1): {
            "voxels": 9, "volume_ml": 50.0, "cut": "",
            **{f"centroid_{axis}_mm": mm for axis, mm in zip("xyz", place.tolist(), strict=True)},
            **(changes if i == 0 else {}),
        }
        for i, place in enumerate(turned_mm)
    }  # fmt: skip
    return replace(scan(subject, session, 50.0), statistics=labels)


PLACES_MM = np.array([[60, 0, 0], [-60, 0, 10], [0, 40, 80], [0, -50, 30], [20, 10, -70]])


def wandering(count=24):
    """Labels that move by some mm from scan to scan, of patients who lie otherwise each time."""
    random = np.random.default_rng(0)
    return [
        placed(f"{i:02}", f"0{number}", PLACES_MM + random.normal(0, 1.5, (5, 3)),
               random.uniform(-1, 1))
        for i in range(count) for number in (1, 2)
    ]  # fmt: skip


def moves(*records):
    cases = [Case(one.case, one.statistics) for one in (*wandering(), *records)]
    return [*moved(cases, previous_scans(one.name for one in cases), 5.0)]


def test_a_label_that_moved_against_the_others():
    """Turned by half a radian and shifted, and only one of five labels is named."""
    assert moves() == []
    away_mm = PLACES_MM + np.eye(5)[0][:, None] * [0, 0, 60]
    before = placed("odd", "01", PLACES_MM)
    ((case, doubt),) = moves(before, placed("odd", "02", away_mm, 0.5))
    assert (case, doubt.label) == (ODD, "1")
    assert re.fullmatch(
        r"\d\d mm nearer to the other labels or further from them than in ses-01, "
        r"usually by at most \d[.]\d mm", doubt.what,
    )  # fmt: skip
    assert moves(before, placed("odd", "02", away_mm, 0.5, cut="S")) == []
