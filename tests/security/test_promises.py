"""SECURITY.md promises nothing without a test, and names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def holds() -> list[str]:
    """The promises of "What holds, and where it is tested"."""
    text = (ROOT / "SECURITY.md").read_text()
    (section,) = re.findall(r"## What holds, and where it is tested\n(.*?)\n## ", text, re.S)
    return re.findall(r"^- (.*)$", section, re.M)


def test_each_promise_names_a_test_that_is_there():
    assert len(holds()) > 8
    for promise in holds():
        named = re.findall(r"`(tests/[\w/]+\.py)`", promise)
        assert named or "(same test)" in promise, promise
        for path in named:
            assert (ROOT / path).is_file(), path
