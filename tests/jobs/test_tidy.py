"""Old run folders and scratch go on request, and nothing that is needed, young or a stranger's."""

from dataclasses import replace
from pathlib import Path

import pytest
from cohorts import write_tiny
from command_line import cli

import unet_pipeline as up
from unet_pipeline import archive, scratch
from unet_pipeline.archive import Archive, Mark, needed_runs, read_archive
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.statistics_table import statistics_csv
from unet_pipeline.request import new_run_id
from unet_pipeline.storage.run_folders import list_run_folders
from unet_pipeline.storage.store import Store, join

MARK = Mark("sha256:ab", {"1": "liver"})
OTHER = replace(MARK, weights="sha256:cd")


def run_id(day: int) -> str:
    return f"202601{day:02}T013000Z-00ab"


def write_run(output: str, name: str, case: str, mark=MARK, in_haste=False) -> None:
    """Write what a run leaves: its table with all lines before it, unless it was cut short."""
    store, runs = Store(), join(output, "runs")
    earlier = Archive(mark) if in_haste else read_archive(store, runs, mark, [case])
    records = [CaseRecord(case, "done", statistics={"1": {"voxels": 7, "volume_ml": 1.5}})]
    table = statistics_csv(records, mark.labels, earlier.tables)
    for file, data in {
        archive.TABLE: table.encode(), "run.json": b"{}", "report.html": b"<p>", "cases.json": b"",
        archive.NAME: earlier.mark_bytes(),
    }.items():  # fmt: skip
        store.write(join(output, "runs", name, file), data)


def cases_of(output: str, mark) -> set[str]:
    return {one.case for one in read_archive(Store(), join(output, "runs"), mark, ()).records}


@pytest.fixture(params=["bucket", "folder"])
def output(request, tmp_path) -> str:
    """Four old runs of a model, one of another, two with what is not ours, and one of today."""
    if request.param == "bucket":
        output = request.getfixturevalue("s3_env").bucket("tidy")
    else:
        output = str(tmp_path / "out")
    write_run(output, run_id(1), "a")
    write_run(output, run_id(2), "b")
    write_run(output, run_id(3), "z", OTHER)
    write_run(output, run_id(4), "c", in_haste=True)
    write_run(output, run_id(5), "d")
    Store().write(join(output, "runs", run_id(6), "run.json"), b"{}")
    Store().write(join(output, "runs", run_id(6), "note.txt"), b"mine")
    Store().write(join(output, "runs", "20261332T013000Z-00ab", "run.json"), b"no such day")
    for mine in ("runs/mine/run.json", "runs/finished.jsonl.gz", "a_dseg.nii.gz"):
        Store().write(join(output, mine), b"mine")
    Store().write(join(output, "runs", new_run_id(), "run.json"), b"{}")
    return output


@pytest.fixture
def left_behind(tmp_path) -> Path:
    """Scratch of a killed process, and some that this one uses."""
    folder = tmp_path / "scratch"
    dead, alive = (folder / f"{scratch.PREFIX}{letter * 32}" for letter in "de")
    scratch.open_scratch(alive)
    dead.mkdir()
    (dead / ".lock").touch()
    (dead / "voxels").write_bytes(bytes(1000))
    yield folder
    scratch.remove_scratch(alive)


def test_what_nobody_needs_is_named_and_removed_on_request(output, left_behind):
    before = Store().list_files(output)
    words = ("tidy", output, "--keep", "1", "--older-than", "1d", "--scratch", left_behind)
    said = cli(*words)
    assert said.returncode == 0
    gone = {join(output, "runs", run_id(day)) for day in (1, 2, 4)}
    dead = left_behind / f"{scratch.PREFIX}{'d' * 32}"
    assert {line.split()[2] for line in said.stdout.splitlines()[:4]} == {*gone, str(dead)}
    assert "3 run folders and 1 of scratch" in said.stdout
    assert said.stdout.endswith("Nothing was removed: --yes does it\n")
    assert Store().list_files(output) == before
    assert dead.exists()

    known = cases_of(output, MARK), cases_of(output, OTHER)
    done = up.tidy(output, keep=1, older_than="1d", scratch=str(left_behind), yes=True)
    assert (done.is_done, len(done.found), done.bytes > 1000) == (True, 4, True)
    assert done.kept == {"newest": 1, "needed": 2, "not ours": 1}
    assert Store().list_files(output) == [
        url for url in before if url.rpartition("/")[0] not in gone
    ]
    assert (cases_of(output, MARK), cases_of(output, OTHER)) == known == ({*"abcd"}, {"z"})
    assert [path.name[-1] for path in left_behind.iterdir()] == ["e"]
    if "://" not in output:
        assert not [folder for folder in gone if Path(folder).exists()]


def test_the_newest_the_young_and_links_to_elsewhere_stay(tmp_path):
    output, elsewhere = str(tmp_path / "out"), tmp_path / "elsewhere"
    for day in (1, 2, 3):
        write_run(output, run_id(day), "a")
    (tmp_path / "out" / "runs" / run_id(2)).rename(elsewhere)
    (tmp_path / "out" / "runs" / run_id(2)).symlink_to(elsewhere)
    settings = {"scratch": str(tmp_path), "yes": True}
    assert up.tidy(output, **settings).kept == {"newest": 2}
    kept = up.tidy(output, keep=1, older_than="99999d", **settings).kept
    assert kept == {"newest": 1, "younger": 1}
    done = up.tidy(output, keep=1, older_than="1h", **settings)
    assert [one.place[-21:] for one in done.found] == [run_id(1)]
    assert len([*elsewhere.iterdir()]) == 5


def test_folders_that_our_jobs_write_are_known_as_ours(tmp_path):
    """What a job comes to write beside its report needs its name in ``run_folders.py``."""
    write_tiny(Store(), str(tmp_path), 1)
    images, masks, output = (str(tmp_path / name) for name in ("images", "masks", "out"))
    asked = {"model": "phantom", "output": output, "confidence": "map"}
    up.segment(images, masks=masks, **asked)
    up.segment(images, masks=masks, compare_with=output, version_name="new", **asked)
    up.check(images, masks, output=output, content=True)
    up.statistics(masks, images, output=output)
    assert cli("differences", output, f"{output}/new", "--output", output).returncode == 0
    folders = list_run_folders(Store(), output) + list_run_folders(Store(), f"{output}/new")
    assert len(folders) == 5
    assert [sorted(one.sizes) for one in folders if not one.is_ours] == []


def test_of_a_run_that_was_cut_short_the_tables_before_are_needed(tmp_path):
    output = str(tmp_path)
    write_run(output, run_id(1), "a")
    write_run(output, run_id(2), "b")
    write_run(output, run_id(3), "c", in_haste=True)
    needed = needed_runs(Store(), join(output, "runs"))
    assert needed == {run_id(2), run_id(3)}
