"""Another model writes beside what the first one made, and over it only where that is asked for."""

import json
import shutil
from pathlib import Path

import pytest
from bundles import random_bundle
from cohorts import write_tiny
from command_line import cli

import unet_pipeline as up
from unet_pipeline.errors import RequestError
from unet_pipeline.storage import other_models
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three cases, two of them segmented by the first of two bundles."""
    root = tmp_path_factory.mktemp("versions")
    write_tiny(Store(), str(root), 3)
    bundles = [
        random_bundle(root / f"liver-{version}", features=(4, 8), seed=version)
        for version in (1, 2)
    ]
    segment(root / "images" / "phantom-0[12]*", bundles[0], root / "out")
    return root, bundles


def segment(images, bundle, output, **settings):
    return up.segment(str(images), model=str(bundle), output=str(output), threads=1, **settings)


def refusal(*request, **settings) -> str:
    with pytest.raises(RequestError) as raised:
        segment(*request, **settings)
    return raised.value.code


def weights_in(output: Path) -> dict[str, str]:
    records = (json.loads(path.read_text()) for path in output.glob("*_dseg.json"))
    return {one["case"]: one["weights"] for one in records}


def test_another_model_is_refused_before_any_work(made):
    root, (_, new) = made
    before = {path: path.stat().st_mtime_ns for path in (root / "out").rglob("*")}
    with pytest.raises(RequestError, match=r"liver-1.*--version-name.*--replace") as raised:
        segment(root / "images", new, root / "out")
    assert raised.value.code == "model_differs"
    assert before == {path: path.stat().st_mtime_ns for path in (root / "out").rglob("*")}


def test_a_case_that_was_not_looked_at_ahead_is_at_fault_and_stays(made, monkeypatch):
    root, (_, new) = made
    monkeypatch.setattr(other_models, "ASKED_AHEAD", 0)
    before = weights_in(root / "out")
    codes = {
        one.case: (one.status, one.code) for one in segment(root / "images", new, root / "out")
    }
    assert codes.pop("phantom-03") == ("done", "")
    assert set(codes.values()) == {("quarantined", "model_differs")}
    after = weights_in(root / "out")
    assert {case: after[case] for case in before} == before
    (root / "out" / "phantom-03_dseg.nii.gz").unlink()
    (root / "out" / "phantom-03_dseg.json").unlink()


def test_a_version_has_a_folder_of_its_own_and_goes_on_there(made):
    root, (_, new) = made
    for status in ("done", "skipped"):
        result = segment(root / "images", new, root / "out", version_name="v2")
        assert {one.status for one in result} == {status}
    assert Path(result[0].output).parent == root / "out" / "v2"
    assert Path(result.summary.report).is_relative_to(root / "out" / "v2" / "runs")
    assert (
        len(set(weights_in(root / "out" / "v2").values()) - set(weights_in(root / "out").values()))
        == 1
    )


def test_it_takes_the_place_of_the_first_where_that_is_asked_for(made, tmp_path):
    root, (old, new) = made
    one = root / "images" / "phantom-01*"
    segment(one, old, tmp_path)
    before = weights_in(tmp_path)
    (record,) = segment(one, new, tmp_path, replace=True)
    assert record.status == "done"
    assert weights_in(tmp_path).keys() == before.keys()
    assert weights_in(tmp_path) != before
    (record,) = segment(one, new, tmp_path)
    assert record.status == "skipped"


def test_other_settings_of_one_model_make_its_label_maps_again(made, tmp_path):
    root, (old, _) = made
    one = root / "images" / "phantom-01*"
    segment(one, old, tmp_path)
    (record,) = segment(one, old, tmp_path, overlap=0.25)
    assert record.status == "done"


def test_a_run_is_held_against_an_earlier_one_as_the_command_does(made):
    """New versions lie below the old output, and are no part of it."""
    root, (_, new) = made
    result = segment(root / "images", new, root / "out", version_name="v3",
                     compare_with=str(root / "out"))  # fmt: skip
    folder = Path(result.summary.report).parent
    said = json.loads((folder / "differences.json").read_text())
    assert (said["cases"], said["only_new"]) == (2, ["phantom-03"])
    assert result.summary.differences == str(folder / "differences.html")
    assert len(result.summary.changes) == len(said["agreements"]) > 0
    assert "limits of agreement" in result.summary.changes[0]
    page = (folder / "report.html").read_text()
    assert "./differences.html" in page
    assert json.loads((folder / "run.json").read_text())["changes"] == list(result.summary.changes)
    done = cli("differences", root / "out", root / "out" / "v3", "--json")
    command = json.loads(done.stdout)
    for key in ("agreements", "changed_most", "only_old", "only_new", "labels"):
        assert command[key] == said[key], key


def test_what_cannot_be_compared_is_said_before_any_work(made, tmp_path):
    root, (old, _) = made
    assert (
        refusal(root / "images", old, tmp_path, compare_with=str(tmp_path)) == "differences_empty"
    )
    segment(root / "images", old, root / "two" / "v1")
    segment(root / "images", old, root / "two" / "v2")
    both = str(root / "two")
    assert refusal(root / "images", old, tmp_path, compare_with=both) == "differences_ambiguous"


def test_an_old_label_map_that_cannot_be_read_costs_no_report(made, tmp_path):
    root, (old, _) = made
    shutil.copytree(root / "out", tmp_path / "old", ignore=shutil.ignore_patterns("v?", "runs"))
    (tmp_path / "old" / "phantom-01_dseg.nii.gz").write_bytes(b"damaged")
    result = segment(root / "images", old, tmp_path / "new", compare_with=str(tmp_path / "old"))
    assert "1 cases could not be compared" in result.summary.changes
    assert Path(result.summary.differences).exists()
