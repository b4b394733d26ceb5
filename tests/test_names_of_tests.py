"""Test modules have no packages, so no name may stand twice: pytest could not collect both."""

from collections import Counter
from pathlib import Path


def test_no_two_modules_have_one_name():
    names = Counter(
        file.name for file in Path(__file__).parent.rglob("*.py") if file.name != "conftest.py"
    )
    assert [name for name, count in names.items() if count > 1] == []
