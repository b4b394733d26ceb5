"""The version of the package is that of the changelog, the citation and the image's names."""

import re

import yaml
from doc_pages import ROOT, files

from unet_pipeline import __version__

IMAGE = re.compile(r"(?:unet-pipeline:|Tag: )(\d+\.\d+\.\d+)-(?:cpu|cuda)")


def test_the_changelog_begins_with_it():
    heading = re.search(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading
    assert heading[1] == __version__


def test_it_is_what_is_cited():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_images_are_named_for_it():
    texts = [(ROOT / name).read_text() for name in files() if name.startswith("deploy/")]
    named = [version for text in texts for version in IMAGE.findall(text)]
    assert len(named) > 10
    assert set(named) == {__version__}


def test_a_forge_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if ".ci/run" in step.get("run", "")] == ["bash .ci/run"]
