"""What files are taken for, as the commands say it, on a real object store."""

import json

import pytest
from command_line import cli

from unet_pipeline.storage.store import Store, join


@pytest.fixture
def scans(s3_env):
    bucket = s3_env.bucket("lists")
    for path in ("p1/ct.nii", "p1/truth.nii", "p2/ct.nii", "p2/ct_seg.nii", "notes.txt"):
        Store().write(join(bucket, path), b"x")
    return bucket


LINE = "2 cases in 2 files; 3 ignored: 2 no volume, 1 named like a mask"


def test_list_shows_each_file_and_does_no_more(scans):
    Store().remove(join(scans, "p1/truth.nii"))
    Store().write(join(scans, "more.json"), b"{}")
    told = [
        cli("check", scans, "--list"),
        cli("plan", scans, "--model", "phantom", "--list"),
        cli("segment", scans, "--model", "phantom", "--output", f"{scans}/out", "--list"),
    ]
    for one in told:
        assert one.returncode == 0, one.stderr
        assert LINE in " ".join(one.stdout.split())
        assert "p2/ct_seg.nii  named like a mask" in one.stdout
        assert "p1/ct.nii  case p1/ct" in one.stdout
    assert len(Store().list_files(scans)) == 5


def test_list_for_machines_is_a_line_per_file_and_the_numbers(scans):
    shown = cli("check", scans, "--mask-pattern", "{case}/truth.nii", "--list", "--json")
    *files, numbers = map(json.loads, shown.stdout.splitlines())
    assert {one["file"].removeprefix(f"{scans}/"): (one["kind"], one["why"]) for one in files} == {
        "notes.txt": ("ignored", "no volume"),
        "p1/ct.nii": ("image", "case p1/ct"),
        "p1/truth.nii": ("mask", "of p1/ct"),
        "p2/ct.nii": ("image", "case p2/ct"),
        "p2/ct_seg.nii": ("ignored", "named like a mask"),
    }
    assert (numbers["cases"], numbers["with_mask"], numbers["masks"]) == (2, 1, 1)
    assert shown.returncode == 1, "in check a missing mask is a fault of its case"
    assert "mask_missing" in shown.stderr


@pytest.mark.parametrize("command", ["check", "plan", "segment", "train", "depths", "compare"])
def test_a_wrong_pattern_is_one_line_in_every_command(scans, command):
    more = {
        "check": (),
        "plan": ("--model", "phantom"),
        "segment": ("--model", "phantom", "--output", f"{scans}/out"),
        "train": ("--output", f"{scans}/out"),
        "depths": ("--model", "phantom", "--output", f"{scans}/out"),
        "compare": ("phantom", "hippocampus", "--output", f"{scans}/out"),
    }[command]
    told = cli(command, scans, *more, "--mask-pattern", "seg.nii")
    assert told.returncode == 2
    assert "[mask_pattern_invalid]" in told.stderr
    assert "{case}/segmentation.nii.gz" in told.stderr


def test_a_local_file_is_listed_by_its_path(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    assert f"image   {tmp_path}/a.nii.gz  case a\n" in cli("check", tmp_path, "--list").stdout
