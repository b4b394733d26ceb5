"""The command ``layers``: its list, its findings, its errors in one line."""

import json

import pytest
from cohorts import tiny_cohort
from command_line import cli

from unet_pipeline.storage.store import Store


def test_the_list_has_a_line_for_each_block():
    ran = cli("layers", "--model", "phantom", "--list", "--threads", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert all(row["block"] for row in rows)
    by_name = {row["layer"]: row for row in rows}
    assert by_name["conv_1_0"]["scale"] == [0.5, 0.5, 0.5]
    assert by_name["upcat_0_1"]["side"] == "decoder"
    assert by_name["upcat_0_1"]["multiply_adds"] > by_name["conv_0_0"]["multiply_adds"] > 0


@pytest.mark.slow
def test_findings_and_a_case_that_was_left_out(tmp_path):
    small = tiny_cohort(Store(), str(tmp_path / "scans"))
    ran = cli(
        "layers", small.images, "--masks", small.masks, "--model", "phantom", "--output",
        tmp_path / "out", "--layers", "conv_0_0,upcat_0_*", "--fit-cases", "1", "--windows", "1",
        "--groups", "0", "--voxels", "600", "--threads", "1", "--json",
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    *layers, summary = [json.loads(line) for line in ran.stdout.splitlines()]
    assert layers[0]["layer"] == "conv_0_0"
    assert all(set(one["probe_dice"]) == set(one["probe_iou"]) for one in layers)
    assert {fault["code"] for fault in summary["faults"]} == {"origin_mismatch", "file_truncated"}
    assert (tmp_path / "out" / "runs" / summary["run_id"] / "layers.html").is_file()


def test_without_a_cohort_there_is_only_the_list():
    ran = cli("layers", "--model", "phantom")
    assert ran.returncode == 2
    assert "[setting_invalid] --images: found nothing" in ran.stderr
