"""`depths` and `compare` on the command line: exit status, JSON lines, tables, one-line errors."""

import json
from importlib.util import find_spec

import pytest
from bundles import random_bundle
from cohorts import tiny_cohort
from command_line import cli

from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-selection")
    small = tiny_cohort(Store(), str(folder))
    nested = {"network": "unetpp", "features": (2, 2, 4, 4, 4), "roi_size": (32, 16, 16)}
    random_bundle(folder / "nested", overlap=0.0, **nested)
    random_bundle(folder / "plain", features=(4, 8))
    random_bundle(folder / "other", features=(4, 8), seed=1)
    return folder, small


@pytest.mark.slow
def test_depths_prints_a_line_per_label_map_and_one_for_the_result(scans):
    folder, small = scans
    ran = cli(
        "depths", small.images, "--masks", small.masks, "--model", folder / "nested", "--output",
        folder / "out", "--cluster", "serial", "--no-adaptive", "--tolerance", 0.5, "--json",
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr  # two cases were left out
    *lines, result = map(json.loads, ran.stdout.splitlines())
    assert {line["entrant"] for line in lines} == {"L1", "L2", "L3", "L4", "mean"}
    assert result["choice"]["tolerance"] == 0.5
    assert result["choice"]["depth"] == 1
    assert {one["code"] for one in result["left_out"]} == {"origin_mismatch", "file_truncated"}


@pytest.mark.slow
def test_compare_prints_tables(scans):
    folder, small = scans
    ran = cli(
        "compare", small.images, folder / "plain", f"deep={folder}/nested", "--masks", small.masks,
        "--output", folder / "compared", "--cluster", "serial",
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    for text in ("deep less plain", "Where they differ most", "left out", "only 2 cases"):
        assert text in ran.stdout
    assert "report.html" in ran.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")
def test_compare_runs_all_bundles_with_the_engine_that_was_asked_for(scans):
    folder, small = scans
    ran = cli(
        "compare", small.images, folder / "plain", folder / "other", "--masks", small.masks,
        "--output", folder / "fast", "--cluster", "serial", "--engine", "openvino",
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    sidecars = [json.loads(file.read_text()) for file in (folder / "fast").rglob("*_dseg.json")]
    assert [sidecar["engine"]["used"] for sidecar in sidecars] == ["openvino"] * 4


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("depths", "--model", "plain"), "depth_invalid"),
        (("depths", "--model", "nested", "--confidence", "1.5"), "setting_invalid"),
        (("compare", "plain"), "models_too_few"),
        (("compare", "plain", "nested", "--split", "train"), "setting_invalid"),
    ],
)
def test_a_wrong_request_is_one_line_and_status_2(scans, arguments, code):
    folder, small = scans
    name, *rest = [f"{folder}/{part}" if part in ("plain", "nested") else part
                   for part in arguments]  # fmt: skip
    ran = cli(name, small.images, *rest, "--masks", small.masks, "--output", folder / "no")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert f"[{code}]" in ran.stderr
    assert not (folder / "no").exists()
