"""Settings that are saved on Prefect's page, in runs of a real worker."""

import nibabel as nib
import numpy as np
import pytest
from cohorts import tiny_cohort
from flow_runs import start_run, wait_for_run

from unet_pipeline.storage.store import Store

pytestmark = pytest.mark.soak


@pytest.fixture
def save(deployed):
    """Saves settings under a name, as the page does."""
    made = []

    def saved(name, value):
        made.append(deployed.api("/variables/", {"name": name, "value": value})["id"])
        return name

    yield saved
    for one in made:
        deployed.api(f"/variables/{one}", method="DELETE")


def run_of(server, root, **settings):
    given = {"images": f"{root}/scans/images", "model": "phantom", "output": f"{root}/out"}
    return wait_for_run(server, start_run(server, "on-demand", {**given, **settings}))


def test_a_run_takes_what_its_form_leaves_at_the_default(deployed, save, tmp_path):
    small = tiny_cohort(Store(), str(tmp_path / "scans"), 1)
    name = save("nightly", {"labels": ["1"], "cluster": {"kind": "serial"}, "masks": small.masks})
    run = run_of(deployed, tmp_path, saved=name)
    assert run["state_name"] == "CompletedWithFaults", run["state"]
    (labels,) = (tmp_path / "out").glob("phantom-*_dseg.nii.gz")
    assert set(np.unique(np.asanyarray(nib.load(labels).dataobj))) == {0, 1}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"storage": {"endpoint_url": "http://127.0.0.1:1"}}, "[endpoint_not_allowed]"),
        ({"windows": {"overlap": 2}}, "[setting_invalid]"),
        ({"overlap": 0.5}, "[setting_unknown]"),
        ([1, 2], "[settings_unreadable] the variable odd"),
    ],
)
def test_saved_settings_are_checked_as_those_of_a_form_are(deployed, save, tmp_path, value, said):
    run = run_of(deployed, tmp_path, saved=save("odd", value))
    assert run["state_name"] == "WrongRequest"
    assert said in run["state"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_name_that_nothing_is_saved_under_is_said(deployed, tmp_path):
    run = run_of(deployed, tmp_path, saved="nobody")
    assert "the variable nobody: found no such variable" in run["state"]["message"]
