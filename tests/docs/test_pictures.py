"""Pictures of the pages are there, are told in words, and are those that the script makes."""

import re
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from doc_pages import FENCE, ROOT, named, pages
from PIL import Image

from benchmarks.pictures.colours import few_colours
from benchmarks.pictures.groups import FOLDER, GROUPS

SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
LEAST_WORDS = 5  # of what a picture shows
MOST_BYTES, MOST_OF_ALL = 150_000, 1_500_000


def shown(text: str) -> Iterator[tuple[str, str]]:
    """What each picture of a page shows, in words, and its file."""
    return ((alt, place) for alt, place in SHOWN.findall(FENCE.sub("", text)))


def faults(text: str, page=ROOT / "README.md") -> list[str]:
    """The pictures of a page that are not there, or of which nothing is said."""
    return [
        place
        for alt, place in shown(text)
        if len(alt.split()) < LEAST_WORDS or not (page.parent / place).is_file()
    ]


@pytest.mark.parametrize("page", pages(), ids=named)
def test_pictures_are_there_and_told_in_words(page):
    assert faults(page.read_text(), page) == []


def test_a_broken_picture_is_seen():
    words = "a phantom in three planes"
    sound = f"![{words}](docs/pictures/case.png)"
    assert faults(f"{sound} ![](docs/pictures/case.png) ![{words}](docs/pictures/no.png)") == [
        "docs/pictures/case.png", "docs/pictures/no.png",
    ]  # fmt: skip


def test_pictures_are_those_of_the_script_and_all_are_shown():
    made = {file for group in GROUPS.values() for file in group.files}
    places = {(p.parent / place).resolve() for p in pages() for _, place in shown(p.read_text())}
    assert {place.name for place in places if place.parent == FOLDER.resolve()} == made
    assert {file.name for file in FOLDER.iterdir()} == made


def test_pictures_are_small():
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert max(sizes.values()) < MOST_BYTES, sizes
    assert sum(sizes.values()) < MOST_OF_ALL


def test_pictures_bring_their_own_background_and_nothing_from_elsewhere():
    for file in FOLDER.iterdir():
        if file.suffix == ".png":
            assert "A" not in Image.open(file).convert().getbands(), file
        else:
            text = file.read_text()
            assert "<rect" in text, file
            assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_few_colours_are_near_the_many():
    pixels = [((13 * x) % 256, (7 * y) % 256, 90) for x in range(24) for y in range(24)]
    greys = [(level, level, level) for level in range(256)]
    image = Image.new("RGB", (len(pixels) + len(greys), 1))
    image.putdata(pixels + greys)
    few = Image.open(BytesIO(few_colours(image))).convert("RGB")
    apart = np.abs(np.asarray(few, int) - np.asarray(image, int)).max(axis=2)[0]
    assert apart[-256:].max() <= 4
    assert apart.max() < 40
