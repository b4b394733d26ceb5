"""`depths` and `compare` on the command line: exit status, JSON lines, tables, one-line errors."""

import json

import pytest
from bundles import random_bundle
from cohorts import tiny_cohort
from typer.testing import CliRunner

from unet_pipeline.cli import app
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-selection")
    small = tiny_cohort(Store(), str(folder))
    nested = {"network": "unetpp", "features": (2, 2, 4, 4, 4), "roi_size": (32, 16, 16)}
    random_bundle(folder / "nested", overlap=0.0, **nested)
    random_bundle(folder / "plain", features=(4, 8))
    return folder, small


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "100"}).invoke(app, [*map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_depths_prints_a_line_per_label_map_and_one_for_the_result(scans):
    folder, small = scans
    status, out, err = run(
        "depths", small.images, "--masks", small.masks, "--model", folder / "nested", "--output",
        folder / "out", "--cluster", "serial", "--no-adaptive", "--tolerance", 0.5, "--json",
    )  # fmt: skip
    assert status == 1, err  # two cases were left out
    *lines, result = map(json.loads, out.splitlines())
    assert {line["entrant"] for line in lines} == {"L1", "L2", "L3", "L4", "mean"}
    assert result["choice"]["tolerance"] == 0.5
    assert result["choice"]["depth"] == 1
    assert {one["code"] for one in result["left_out"]} == {"origin_mismatch", "file_truncated"}


@pytest.mark.slow
def test_compare_prints_tables(scans):
    folder, small = scans
    status, out, err = run(
        "compare", small.images, folder / "plain", f"deep={folder}/nested", "--masks", small.masks,
        "--output", folder / "compared", "--cluster", "serial",
    )  # fmt: skip
    assert status == 1, err
    for text in ("deep less plain", "Where they differ most", "left out", "only 2 cases"):
        assert text in out
    assert "report.html" in out


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
    status, out, err = run(
        name, small.images, *rest, "--masks", small.masks, "--output", folder / "no"
    )
    assert status == 2
    assert out == ""
    assert f"[{code}]" in err
    assert not (folder / "no").exists()
