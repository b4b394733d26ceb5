"""The last scan of the same subject: which case that is, and which change is unlike the others'."""

import numpy as np

from unet_pipeline.evaluation.follow_up import LEAST_PAIRS, previous_scans
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
