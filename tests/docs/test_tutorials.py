"""Two tutorials, followed to the letter in an empty folder."""

import csv
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Done, cli
from doc_pages import ROOT, blocks

TUTORIALS = ROOT / "docs" / "tutorials"
ROW = re.compile(r"^\| `(phantom-\d+)` \| `(\w+)` \|", re.MULTILINE)


def steps(page: Path) -> Iterator[list[str]]:
    """The commands of a page, in words; one goes on while a quote is open."""
    command = ""
    for line in blocks(page.read_text()).splitlines():
        command += line.removeprefix("    ") + "\n"
        try:
            words = shlex.split(command)
        except ValueError:
            continue
        command = ""
        if words:
            yield words
    assert not command.strip()


def follow(page: str) -> list[Done]:
    """Do what a tutorial says, and return what the program answered."""
    answers = []
    for program, *words in steps(TUTORIALS / page):
        if program == "unet-pipeline":
            answers.append(cli(*words))
        elif program == "python":
            exec(compile(words[1], page, "exec"), {})
        else:
            subprocess.run([program, *words], check=True)
    return answers


@pytest.mark.slow
def test_segment_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = follow("segment-a-folder.md")
    assert [answer.returncode for answer in answers] == [0, 0, 0]
    assert "4 done, 0 skipped, 0 quarantined" in answers[1].stdout
    assert "0 done, 4 skipped, 0 quarantined" in answers[2].stdout
    for name in ("phantom-01_dseg.nii.gz", "phantom-01_dseg.png", "phantom-01_dseg.json"):
        assert (tmp_path / "results" / name).is_file()
    first = min((tmp_path / "results" / "runs").iterdir())
    assert (first / "report.html").is_file()
    rows = list(csv.DictReader((first / "cases.csv").read_text().splitlines()))
    assert [float(row["mean_dice"]) for row in rows] == pytest.approx([0.97] * 4, abs=0.015)


@pytest.mark.slow
def test_find_the_bad_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "find-the-bad-ones.md"
    headers, voxels, fixed, segmented = follow(page)
    told = ROW.findall((TUTORIALS / page).read_text())
    assert set(re.findall(r"fail (\S+) \[(\w+)\]", headers.stdout)) == set(told)
    assert len(told) == 3
    assert (headers.returncode, voxels.returncode, fixed.returncode) == (1, 1, 1)
    assert next((tmp_path / "seen" / "runs").glob("*/check.html")).is_file()
    assert set(re.findall(r"^fail (\S+) ", fixed.stdout, re.M)) == {"phantom-03", "phantom-04"}
    assert segmented.returncode == 0
    assert {file.name for file in (tmp_path / "results").glob("*_dseg.nii.gz")} == {
        "phantom-01_dseg.nii.gz", "phantom-02_dseg.nii.gz",
    }  # fmt: skip


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_scripts_of_a_tutorial_are_python(page):
    scripts = [words[2] for words in steps(page) if words[:2] == ["python", "-c"]]
    assert scripts
    for script in scripts:
        compile(script, page.name, "exec")
