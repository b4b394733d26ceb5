"""The examples of docs/python.md, run as they stand there, and what their results are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import unet_pipeline as up
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the folder of a small cohort, and what the examples leave behind when run there."""
    folder = tmp_path_factory.mktemp("python")
    write_cohort(Store(), str(folder), 2, seed=3)
    (folder / "images").rename(folder / "scans")
    (folder / "scans" / "torn.nii.gz").write_bytes(b"torn")
    before, found = Path.cwd(), {}
    os.chdir(folder)
    try:
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), found)  # as a reader would paste it
    finally:
        os.chdir(before)
    return folder, found


def test_records_are_those_of_all_cases(page):
    _, found = page
    result = found["result"]
    assert [record.status for record in result] == ["done", "done", "quarantined"]
    assert result["torn"].code == "file_corrupt" or result["torn"].code == "file_truncated"
    assert result[0].mean_dice > 0.9
    assert result.summary.counts == {"done": 2, "skipped": 0, "quarantined": 1}


def test_a_label_map_is_the_file_and_its_grid(page):
    folder, found = page
    labels, record = found["labels"], found["result"][0]
    file = nib.load(folder / record.output)
    np.testing.assert_array_equal(labels.labels_XYZ, np.asarray(file.dataobj))
    np.testing.assert_allclose(labels.grid.affine, file.affine)
    assert set(labels.names) == {0, 1} or len(labels.names) > 1


def test_a_case_without_a_label_map_says_why(page):
    _, found = page
    with pytest.raises(CaseError, match="torn"):
        found["result"].labels("torn")


def test_tables_hold_every_case(page):
    _, found = page
    for result in (found["result"], found["checked"], found["planned"]):
        shown = result._repr_html_()
        assert all(record.case in shown for record in result)


def test_the_check_and_the_plan_see_the_same_cohort(page):
    _, found = page
    assert [record.verdict for record in found["checked"]].count("fail") == 1
    assert len(found["planned"]) == 2
    assert [fault.case for fault in found["planned"].faults] == ["torn"]
    assert found["planned"].estimate.windows == sum(one.windows for one in found["result"])


def test_a_wrong_setting_is_named():
    with pytest.raises(RequestError, match="overlapp"):
        up.segment("scans/", model="phantom", output="memory://x", overlapp=0.5)
    with pytest.raises(RequestError, match="overlap"):
        up.segment("scans/", model="phantom", output="memory://x", overlap=1.5)


def test_nothing_is_imported_before_it_is_asked_for():
    """`unet-pipeline --help` and workers import the package; neither needs the API."""
    code = "import sys, unet_pipeline as up; assert 'torch' not in sys.modules; up.plan_windows"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"segment", "Merge", "load_bundle"} <= set(dir(up))
    with pytest.raises(AttributeError, match="nonsense"):
        up.nonsense  # noqa: B018
