"""Parts of a cohort: disjoint, all of it together, and the same whatever else the cohort holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unet_pipeline.config import SegmentSettings
from unet_pipeline.shards import Shard, shard_of

NAMES = [f"case-{number:04}" for number in range(4000)]


@given(st.text(), st.integers(1, 9999))
def test_each_case_is_in_one_part(name, of):
    assert sum(Shard(number, of).has(name) for number in range(1, of + 1)) == 1


def test_parts_are_about_as_large_as_each_other():
    sizes = [sum(map(Shard(number, 8).has, NAMES)) for number in range(1, 9)]
    assert sum(sizes) == 4000
    assert min(sizes) > 430
    assert max(sizes) < 570


def test_a_case_stays_in_its_part_on_every_machine_and_in_every_version():
    assert [name for name in NAMES[:24] if Shard(3, 8).has(name)] == [
        "case-0002", "case-0011",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["3 of 8", "9/8", "0/8", "3/0", "3", "3/8/2", "-1/8", "1/99999"])
def test_what_says_no_part_is_refused_with_a_sentence(text):
    with pytest.raises(ValidationError, match=r"takes a part of the cohort|at most 9 characters"):
        SegmentSettings(images="in", model="phantom", output="out", shard=text)


def test_a_part_is_what_it_says():
    assert shard_of("3/8") == Shard(3, 8)
    assert SegmentSettings(images="in", model="phantom", output="out").part is None
