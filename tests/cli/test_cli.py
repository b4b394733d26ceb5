"""The command line as people and machines meet it: exit status, JSON lines, one-line errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from cohorts import tiny_cohort
from command_line import cli, cli_process

from unet_pipeline.cluster import backends
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    return folder, tiny_cohort(Store(), str(folder))


@pytest.fixture(scope="module")
def segmented(place):
    folder, small = place
    return cli_process(
        "segment", small.images, "--masks", small.masks, "--require-masks", "--model", "phantom",
        "--output",
        folder / "out", "--cluster", "serial", "--threads", "1", "--json",
    )  # fmt: skip


@pytest.mark.slow
def test_segment_prints_a_line_per_case_and_one_for_the_run(place, segmented):
    _, small = place
    assert segmented.returncode == 1, segmented.stderr
    *cases, run = [json.loads(line) for line in segmented.stdout.splitlines()]
    assert len(cases) == 4
    done = next(case for case in cases if case["case"] == small.sound[0])
    assert set(done) >= {
        "case",
        "status",
        "code",
        "message",
        "output",
        "windows",
        "dice",
        "seconds",
    }
    assert set(done["seconds"]) >= {"read", "infer", "merge", "write"}
    assert Path(done["output"]).is_file()
    assert run["counts"] == {"done": 2, "skipped": 0, "quarantined": 2}


@pytest.mark.slow
def test_segment_for_people_shows_a_table_and_the_report(place, segmented):
    folder, small = place
    shown = cli(
        "segment", f"{small.images}/{small.sound[0]}.nii.gz", "--masks",
        f"{small.masks}/{small.sound[0]}.nii.gz", "--model", "phantom",
        "--output", folder / "out1", "--cluster", "local", "--threads", "1",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "1 done" in shown.stdout
    assert "report.html" in shown.stdout


def test_check_prints_verdicts(place):
    _, small = place
    checked = cli("check", small.images, "--masks", small.masks, "--json")
    lines = {line["case"]: line for line in map(json.loads, checked.stdout.splitlines())}
    assert checked.returncode == 1
    assert lines[small.sound[0]]["verdict"] == "pass"
    assert 0 < lines[small.sound[0]]["bytes_read"] < 20_000
    assert lines[small.misaligned]["codes"] == ["origin_mismatch"]
    assert lines[small.misaligned]["residual_mm"] > 1
    assert set(lines[small.misaligned]) >= {
        "case", "verdict", "codes", "residual_mm", "message",
    }  # fmt: skip


def test_plan_shows_windows_memory_and_time(place):
    _, small = place
    image = f"{small.images}/{small.sound[0]}.nii.gz"
    planned = cli("plan", image, "--model", "phantom", "--threads", "1", "--json")
    plan = json.loads(planned.stdout)
    assert plan["windows"] > 0
    assert plan["tiles"] == 1
    assert plan["bytes_read"] == Path(image).stat().st_size
    assert plan["device_seconds"] == plan["windows"] * plan["speed"]["seconds_per_window"] > 0
    tiled = cli("plan", image, "--model", "phantom", "--tile", "20,20,20", "--no-measure", "--json")
    assert json.loads(tiled.stdout)["tiles"] > 1
    assert json.loads(tiled.stdout)["device_seconds"] is None
    assert "windows" in cli("plan", image, "--model", "phantom", "--no-measure").stdout


def test_plan_of_a_cohort_counts_and_names_what_would_be_refused(place):
    _, small = place
    priced = ("--workers", "2", "--hourly-rate", "1.5", "--currency", "EUR", "--threads", "1")
    planned = cli("plan", small.images, "--model", "phantom", *priced, "--json")
    assert planned.returncode == 1
    *cases, sums = [json.loads(line) for line in planned.stdout.splitlines()]
    assert {case["case"] for case in cases if case.get("status") == "quarantined"} == {
        small.cut_short
    }
    assert (sums["cases"], sums["faults"]) == (3, 1)
    for number in ("windows", "tiles", "bytes_read", "label_bytes"):
        assert sums[number] == sum(case.get(number, 0) for case in cases if "status" not in case)
    spent = sums["device_seconds"] + sums["codec_seconds"]
    assert sums["wall_seconds"] == spent / 2
    assert sums["price"] == 1.5 * spent / 3600
    shown = cli("plan", small.images, "--model", "phantom", "--no-measure")
    assert "3, and 1 that would be refused" in shown.stdout
    assert "file_truncated" in shown.stderr


def test_the_help_of_plan_teaches():
    text = " ".join(cli("plan", "--help").stdout.split())
    for word in ("cohort", "--workers", "--hourly-rate", "--no-measure", "Example:"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["segment", "/no/such/folder", "--model", "phantom", "--output", "OUT"], "_missing"),
        (["segment", "IMAGES", "--model", "nope", "--output", "OUT"], "bundle_missing"),
        (
            ["segment", "IMAGES", "--model", "phantom", "--output", "OUT", "--overlap", "2"],
            "setting",
        ),
        (
            ["segment", "IMAGES", "--model", "phantom", "--output", "OUT", "--tile", "1,2"],
            "setting",
        ),
        (["segment", "IMAGES", "--model", "phantom", "--output", "OUT", "--blend", "x"], "setting"),
        (
            ["segment", "IMAGES", "--model", "phantom", "--output", "OUT", "--cluster", "moon"],
            "setting",
        ),
        (["plan", "/no/such/file.nii", "--model", "phantom"], "file_missing"),
        (["train", "IMAGES", "MASKS", "--output", "OUT", "--roi-size", "30,30,30"], "roi_size"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_status_2(place, arguments, code):
    folder, small = place
    words = {"IMAGES": small.images, "MASKS": small.masks, "OUT": str(folder / "no")}
    failed = cli(*(words.get(word, word) for word in arguments))
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert code in failed.stderr
    assert not (folder / "no").exists()


def test_a_process_says_the_same_and_shows_no_traceback(place):
    folder, small = place
    wrong = ("segment", small.images, "--model", "nope", "--output", folder / "no")
    failed = cli_process(*wrong)
    assert failed.returncode == 2
    assert failed.stderr == cli(*wrong).stderr
    assert "[bundle_missing]" in failed.stderr
    assert not (folder / "no").exists()


def test_an_unreachable_scheduler_is_named(place, monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 1.0)
    folder, small = place
    failed = cli(
        "segment", small.images, "--model", "phantom", "--output", folder / "never",
        "--cluster", "tcp://127.0.0.1:9",
    )  # fmt: skip
    assert failed.returncode == 2
    assert "cluster_unreachable" in failed.stderr


@pytest.mark.slow
def test_train_writes_a_bundle_that_segments(place):
    folder, small = place
    trained = cli(
        "train", small.images, small.masks, "--network", "unet", "--features", "4,8", "--roi-size",
        "32,32,32", "--spacing", "3,3,3", "--steps", "3", "--holdout", "0.5", "--output",
        folder / "bundle", "--threads", "1", "--json",
    )  # fmt: skip
    assert trained.returncode == 1, trained.stderr  # two cases were left out
    report = json.loads(trained.stdout)
    assert {fault["code"] for fault in report["faults"]} == {"origin_mismatch", "file_truncated"}
    image = f"{small.images}/{small.sound[0]}.nii.gz"
    used = cli(
        "segment", image, "--model", folder / "bundle", "--output", folder / "out2", "--cluster",
        "serial", "--threads", "1",
    )  # fmt: skip
    assert used.returncode == 0, used.stderr


def test_an_image_with_a_float_mask_of_fractions_fails_the_check(tmp_path):
    values = np.full((8, 8, 8), 0.5, np.float32)
    data = encode_volume(values, header_of(values.shape, np.eye(4), np.float32))
    for name in ("images", "masks"):
        Store().write(str(tmp_path / name / "a.nii"), data)
    place = (tmp_path / "images", "--masks", tmp_path / "masks", "--json")
    checked = cli("check", *place, "--content")
    assert json.loads(checked.stdout)["codes"][0] == "image_constant"
    assert "mask_not_integer" in json.loads(checked.stdout)["codes"]
    assert cli("check", *place).returncode == 0  # no header tells


def test_bundles_are_inspected_pruned_and_verified(tmp_path):
    seen = json.loads(cli("bundle", "inspect", "phantom", "--json").stdout)
    assert seen["depths"] == 4
    pruned = cli("bundle", "prune", "phantom", "--depth", "2", "--output", tmp_path / "pruned")
    assert pruned.returncode == 0, pruned.stderr
    checked = cli("bundle", "verify", tmp_path / "pruned", "--json")
    assert json.loads(checked.stdout)["largest difference"] == 0
    wrong = cli("bundle", "prune", "phantom", "--depth", "9", "--output", tmp_path / "no")
    assert wrong.returncode == 2
    assert "[depth_invalid]" in wrong.stderr


def test_networks_prints_a_line_per_depth():
    shown = cli("networks", "--features", "4,8,16", "--window", "16", "--repeats", "1", "--json")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [row["network"] for row in rows].count("unetpp") == 2
    wrong = cli("networks", "--window", "50")
    assert wrong.returncode == 2
    assert "Take 48 or 64" in wrong.stderr
