"""Sizes are held against patients of that sex and age, where these are known and enough."""

import numpy as np
import pytest

from unet_pipeline.evaluation.doubts import LEAST_CASES
from unet_pipeline.evaluation.groups import Group, group_of
from unet_pipeline.evaluation.review import review
from unet_pipeline.records import CaseRecord
from unet_pipeline.storage.manifest import manifest_bytes, parse_manifest


def liver(case, ml):
    return CaseRecord(case, "done", statistics={"1": {"voxels": 9, "volume_ml": ml, "cut": ""}})


def ward(count=LEAST_CASES):
    """Children with livers of 400 to 800 ml and adults with 1,200 to 2,000 ml, and their groups."""
    child = [liver(f"child {i:02}", ml) for i, ml in enumerate(np.linspace(400, 800, count))]
    adult = [liver(f"adult {i:02}", ml) for i, ml in enumerate(np.linspace(1200, 2000, count))]
    groups = {one.case: group_of("", "6" if one in child else "50") for one in child + adult}
    return child + adult, groups


def test_an_adult_whose_liver_is_as_small_as_a_childs():
    records, groups = ward()
    odd = [*records, liver("odd", 600.0)]
    assert review(odd) == []
    assert review(odd, groups=groups) == []  # of whom nothing is known, against all
    (found,) = review(odd, groups=groups | {"odd": group_of("", "51")})
    assert found.case == "odd"
    assert found.doubts[0].what.startswith("volume 600 ml, usually 1,")
    assert found.doubts[0].what.endswith(" ml in cases of that age")
    assert review(odd, groups=groups | {"odd": group_of("", "5")}) == []


def test_a_group_that_is_too_small_falls_back():
    records, groups = ward(LEAST_CASES - 2)
    odd = [*records, liver("odd", 600.0)]
    assert review(odd, groups=groups | {"odd": group_of("", "50")}) == []
    records, groups = ward()
    both = {case: Group("fm"[i % 2], one.age) for i, (case, one) in enumerate(groups.items())}
    odd = [*records, liver("odd", 600.0)]
    (found,) = review(odd, groups=both | {"odd": group_of("f", "50")})
    assert found.doubts[0].what.endswith("in cases of that age")  # women of that age are ten


@pytest.mark.parametrize(("age", "band"), [
    ("0", 0), ("006M", 0), ("1", 1), ("7.9", 3), ("8", 4), ("17.99", 5), ("18", 6), ("045Y", 7),
    ("90", 8), ("400W", 3), ("", None), ("n/a", None), ("-3", None), ("4e4", None),
])  # fmt: skip
def test_ages(age, band):
    assert group_of("", age).age == band


def test_a_manifest_says_sex_and_age_and_no_text_of_them_is_a_fault():
    text = (
        "case,image,sex,age\na,a.nii.gz,F,45\nb,b.nii.gz,unknown,n/a\n"
        "a,a.nii.gz,F,46\n"  # says again what another says, to all that a run does
    )
    cases = parse_manifest(text.encode(), "/data/cohort.csv")
    assert [(one.sex, one.age) for one in cases] == [("F", "45"), ("unknown", "n/a")]
    assert "45" not in repr(cases[0])
    data = manifest_bytes(cases, "/data/fixed.jsonl")
    assert [(one.sex, one.age) for one in parse_manifest(data, "/data/fixed.jsonl")] == [
        ("F", "45"), ("unknown", "n/a")
    ]  # fmt: skip
    lines = b'{"case": "a", "image": "a.nii.gz", "sex": ["x"], "age": 45.5}\n'
    (one,) = parse_manifest(lines, "/data/cohort.jsonl")
    assert group_of(one.sex, one.age) == Group(None, 7)
