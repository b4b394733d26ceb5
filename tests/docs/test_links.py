"""What a page points to is there: pages, headings, files of the repository."""

import re

import pytest
from doc_pages import ROOT, anchors, files, links, named, pages, spans

FILE = re.compile(
    r"[\w/-]+\.(?:py|sbatch)|(?:benchmarks|deploy|docs)/[\w/-]+\.(?:json|md|toml|yaml)"
)
PAGE = re.compile(r"(?<![\w/])(?:docs|deploy)/[\w/-]+\.md")
CARD = "docs/README.md"  # of a bundle


def lost(text: str, page=ROOT / "README.md") -> set[str]:
    """The links of a page that lead nowhere."""
    return {link for link in links(text) if not _leads(link, text, page)}


def _leads(link: str, text: str, page) -> bool:
    if link.startswith(("http://", "https://", "mailto:")):
        return True
    place, _, anchor = link.partition("#")
    target = page.parent / place if place else page
    if not target.exists():
        return False
    if not anchor:
        return True
    return anchor in anchors(text if target == page else target.read_text())


@pytest.mark.parametrize("page", pages(), ids=named)
def test_links_lead_somewhere(page):
    assert lost(page.read_text(), page) == set()


@pytest.mark.parametrize("page", pages(), ids=named)
def test_files_that_are_named_are_there(page):
    told = {word for span in spans(page.read_text()) for word in span.split()}
    told = {word for word in told if FILE.fullmatch(word)}
    there = files()
    assert {t for t in told if not any(f"/{name}".endswith(f"/{t}") for name in there)} == set()


def test_pages_that_the_code_names_are_there():
    named_in_code = {
        found
        for name in files()
        if name.endswith(".py") and name != "tests/docs/test_links.py"
        for found in PAGE.findall((ROOT / name).read_text())
    }
    assert len(named_in_code) > 5
    assert {page for page in named_in_code - {CARD} if not (ROOT / page).is_file()} == set()


def test_a_lost_link_is_seen():
    text = (
        "# One & two\n\n[a](#one--two) [b](#three) [c](docs/nothing.md) [d](docs/check.md#gone)\n"
    )
    assert lost(text) == {"#three", "docs/nothing.md", "docs/check.md#gone"}
