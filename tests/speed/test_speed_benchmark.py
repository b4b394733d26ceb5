"""The benchmark itself: that it measures what it says, and that ours and MONAI agree in it."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.speed.agreement import compare
from benchmarks.speed.cases import Case, cases_named
from benchmarks.speed.contenders import Contender, contenders_of
from benchmarks.speed.measure import Measurement, run_measured
from benchmarks.speed.page import BEGIN, END, filled
from benchmarks.speed.results import row_of, save
from benchmarks.speed.run import Measured
from benchmarks.speed.table import HEADS, cells_of

ROOT = Path(__file__).resolve().parents[2]
OURS = Contender("ours", "monai", "serial", "eager")
MONAI = Contender("monai", "monai")
SAY_ONE = """print('{"one": 1}')"""


def python(code: str, log: Path, limit_seconds: float = 60.0) -> Measurement:
    command = [sys.executable, "-c", code]
    return run_measured(command, environment={}, log=log, limit_seconds=limit_seconds)


def ours(work: float, wall: float, peak: int) -> Measurement:
    found = {
        "work_seconds": work, "forward_seconds": 4.0, "windows": 8, "windows_planned": 10,
        "tiles": 1, "stages": {"read": 0.5}, "engine": "eager", "best_forward_seconds": 0.5,
        "decode_seconds": 0.75, "encode_seconds": 0.25, "label_map": "a.nii.gz", "versions": {},
    }  # fmt: skip
    return Measurement(found, wall, peak)


def theirs(work: float, wall: float, peak: int) -> Measurement:
    found = {"work_seconds": work, "forward_seconds": 4.0, "windows": 10, "versions": {}}
    return Measurement({**found, "label_map": "b.nii.gz"}, wall, peak)


def label_map(path: Path, values: list[list[list[int]]]) -> Path:
    nib.save(nib.Nifti1Image(np.array(values, np.uint8), np.eye(4)), path)
    return path


def test_the_memory_of_children_counts(tmp_path):
    child = "import numpy, time; a = numpy.ones(25_000_000); time.sleep(3)"  # 200 MB
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    alone = python(f"import time; time.sleep(1); {SAY_ONE}", tmp_path / "log")
    both = python(f"{parent}; {SAY_ONE}", tmp_path / "log")
    assert (alone.found, both.found) == ({"one": 1}, {"one": 1})
    assert 150e6 < both.peak_bytes - alone.peak_bytes < 400e6
    assert both.wall_seconds > 3


def test_a_failure_is_told_by_its_last_line(tmp_path):
    done = python(f"{SAY_ONE}; raise SystemExit('no such volume')", tmp_path / "log")
    assert (done.failure, done.found) == ("no such volume", {})


def test_a_process_over_its_time_is_ended_with_its_children(tmp_path):
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    done = python(code, tmp_path / "log", limit_seconds=1.0)
    assert done.failure == "time limit"
    assert done.wall_seconds < 30


def test_ratios_and_floor():
    mine = Measured(OURS, (ours(10, 20, 10**9), ours(8, 16, 2 * 10**9), ours(6, 18, 10**9)))
    other = Measured(
        MONAI, (theirs(40, 60, 8 * 10**9), theirs(24, 64, 10**9), theirs(12, 36, 10**9))
    )
    row = row_of(mine, other)
    assert row["work_seconds"] == 8
    assert row["floor_seconds"] == 8 * 0.5 + 0.75 + 0.25
    assert row["work_over_floor"] == 8 / 5
    assert row["times_faster_work"] == 3  # of 4, 3 and 2
    assert row["times_faster_wall"] == 3  # of 3, 4 and 2
    assert row["peak_of_peer"] == 0.25
    assert row["forward_share"] == 0.5
    assert len(cells_of(row)) == len(HEADS)


def test_a_peer_that_failed_leaves_no_ratio():
    failed = Measured(MONAI, (Measurement({}, 5.0, 8 * 10**9, "out of memory at 8.0 GB"),))
    row = row_of(Measured(OURS, (ours(10, 20, 10**9),)), failed)
    assert "times_faster_work" not in row
    assert row["peak_of_peer"] == 0.125
    assert cells_of(row_of(failed, None))[2] == "out of memory at 8.0 GB"
    assert len(cells_of(row_of(failed, None))) == len(HEADS)


def test_voxels_that_differ_and_their_margins(tmp_path):
    mine = label_map(tmp_path / "a.nii.gz", [[[0, 1], [2, 2]]])
    other = label_map(tmp_path / "b.nii.gz", [[[0, 1], [1, 0]]])
    margins = np.array([[[5.0, 5.0], [0.25, 0.75]]])
    found = compare(mine, other, "peer", margins)
    assert (found.differing, found.margin_median, found.margin_largest) == (0.5, 0.5, 0.75)
    assert compare(mine, mine, "peer", margins).differing == 0
    with pytest.raises(ValueError, match="two grids"):
        compare(mine, label_map(tmp_path / "c.nii.gz", [[[0, 1]]]), "peer", None)


def test_who_runs_a_case():
    case = Case("x", "", cases_named(["tiny-3"])[0].volume)
    names = [(c.model, c.name) for c in contenders_of(case, ["eager", "auto"], ["nnunet"])]
    assert names == [
        ("nnunet", "ours, eager, serial"),
        ("nnunet", "ours, eager, Dask"),
        ("nnunet", "ours, auto, Dask"),
        ("nnunet", "nnU-Net's predictor"),
    ]


def test_results_of_other_cases_stay(tmp_path):
    path = tmp_path / "speed.json"
    save(path, {"name": "m"}, {"one": {"rows": []}})
    save(path, {"name": "m"}, {"two": {"rows": [1]}})
    assert json.loads(path.read_text())["cases"] == {"one": {"rows": []}, "two": {"rows": [1]}}


def test_a_page_is_filled_between_its_marks():
    page = f"before\n{BEGIN}\nold\n{END}\nafter"
    assert filled(page, ["new"]) == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ours_and_monai_in_one_run(tmp_path):
    command = [
        sys.executable, "-m", "benchmarks.speed", "--cases", "tiny-3", "--repeats", "1",
        "--engines", "eager", "--without", "nnunet", "--device", "cpu",
        "--output", str(tmp_path / "speed.json"), "--work", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "speed.json").read_text())
    rows = results["cases"]["tiny-3"]["rows"]
    assert [row["failure"] for row in rows] == ["", "", ""], done.stdout
    serial, dask, monai = rows
    assert (serial["windows"], dask["windows"], monai["windows"]) == (4, 4, 4)
    of_first_row = dask["agreements"][1]
    assert (of_first_row["reference"], of_first_row["differing"]) == ("first row", 0)
    for row in (serial, dask):
        against_monai = row["agreements"][0]
        assert against_monai["reference"] == "peer"
        assert against_monai["differing"] < 1e-3
        assert against_monai["differing"] == 0 or against_monai["margin_largest"] < 1e-3
        assert row["work_over_floor"] > 0.5  # a machine may be busier when the floor is timed
        assert 0 < row["forward_share"] < 1
        assert 0.1 < row["peak_gb"] < 8
        assert {"read", "infer", "merge", "write"} <= row["stages"].keys()
    assert results["machine"]["cores"] > 0
