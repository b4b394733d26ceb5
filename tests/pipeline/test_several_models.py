"""Several models over one volume: it is read once; label maps are those of runs by themselves."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import CT, random_bundle, transform
from cohorts import write_tiny

import unet_pipeline as up
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.inference import loaded as loaded_models
from unet_pipeline.inference import predictor
from unet_pipeline.jobs.plan import open_plan
from unet_pipeline.jobs.segment import close_models, faults_of, open_segment, run_segment
from unet_pipeline.storage.store import Store
from unet_pipeline.volume import staging

SPACING = (*CT[:3], transform("Spacingd", pixdim=[2.0, 2.0, 2.0]))
STEPS = {
    "liver": (*SPACING, transform("NormalizeIntensityd")),
    "ribs": (*SPACING, transform("ScaleIntensityRanged", a_min=-100, a_max=300, b_min=0, b_max=1)),
    "skin": CT,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny(Store(), str(folder), 3)
    for seed, (name, steps) in enumerate(STEPS.items()):
        random_bundle(folder / name, features=(4, 8), preprocessing=steps, seed=seed)
    return folder


def done(place: Path, output: Path, *names: str, tile=None, images="", **changes):
    model, *also = (name if name == "phantom" else str(place / name) for name in names)
    settings = SegmentSettings(
        images=str(place / "images" / images), model=model, also=tuple(also), output=str(output),
        windows=WindowSettings(tile=tile), cluster=ClusterSettings(kind="serial", threads=1),
        **changes,
    )  # fmt: skip
    run = open_segment(settings)
    records = [*faults_of(run), *run_segment(run, SerialExecutor())]
    close_models(run, records, seconds=1.0, workers=1)
    return records


def label_maps(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*_dseg.nii.gz")}


@pytest.fixture(scope="module")
def alone(place, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The label maps of a run by each model by itself."""
    folder = tmp_path_factory.mktemp("alone")
    for name in STEPS:
        done(place, folder / name, name)
    return {name: label_maps(folder / name) for name in STEPS}


@pytest.mark.parametrize("tile", [None, (20, 30, 17)], ids=["one tile", "fanned out"])
def test_each_volume_is_read_once_for_the_same_label_maps(
    place, alone, tmp_path, monkeypatch, tile
):
    read, prepared, loaded = [], [], []
    volume, prepare, load = staging.read_volume, staging.prepare, predictor.load_network

    def counted(store, url, **asked):
        read.append(url)
        return volume(store, url, **asked)

    def counted_steps(steps, *asked):
        prepared.append(len(steps))
        return prepare(steps, *asked)

    def counted_loads(bundle, *asked):
        loaded.append(bundle.name)
        return load(bundle, *asked)

    monkeypatch.setattr(predictor, "load_network", counted_loads)
    monkeypatch.setattr(staging, "read_volume", counted)
    monkeypatch.setattr(staging, "prepare", counted_steps)
    loaded_models._predictors.clear()
    records = done(place, tmp_path, *STEPS, tile=tile)
    assert {(r.model, r.status) for r in records} == {(name, "done") for name in STEPS}
    assert len(records) == 9
    assert len(read) == 3
    assert loaded == list(STEPS)  # each once
    assert sorted(prepared[:4]) == [1, 1, 4, len(CT)]  # two begin with 4
    assert {name: label_maps(tmp_path / name) for name in STEPS} == alone
    reports = {name: list((tmp_path / name / "runs").glob("*/report.html")) for name in STEPS}
    assert all(len(found) == 1 for found in reports.values())
    first, *further = (record.bytes_read for record in records[:3])
    assert first > 2 * max(further)  # which are headers


def test_a_further_model_is_the_only_one_that_is_run(place, alone, tmp_path):
    done(place, tmp_path, "liver", "skin")
    kept = tmp_path / "skin" / "phantom-02_dseg.json"
    kept.write_text(kept.read_text().replace('"done"', '"begun"'))  # as a killed run leaves it
    records = done(place, tmp_path, "liver", "skin", "ribs")
    found = {(r.model, r.case[-1]) for r in records if r.status == "done"}
    assert found == {("skin", "2"), ("ribs", "1"), ("ribs", "2"), ("ribs", "3")}
    assert {name: label_maps(tmp_path / name) for name in STEPS} == alone


def test_a_fault_of_one_model_is_none_of_the_others(place, tmp_path):
    (tmp_path / "skin").mkdir()
    (tmp_path / "skin" / "phantom-01_dseg.nii.gz").write_bytes(b"somebody's")
    records = done(place, tmp_path, "liver", "skin", "ribs")
    faulty = [(r.model, r.case, r.code) for r in records if r.status != "done"]
    assert faulty == [("skin", "phantom-01", "output_foreign")]
    (run,) = (tmp_path / "skin" / "runs").glob("*/run.json")
    counts = json.loads(run.read_text())["counts"]
    assert counts == {"done": 2, "skipped": 0, "quarantined": 1}


@pytest.mark.parametrize(("names", "code"), [
    (("liver", "liver"), "models_alike"), (("liver", "two"), "models_differ"),
])  # fmt: skip
def test_models_that_cannot_share_are_refused_before_any_work(place, tmp_path, names, code):
    random_bundle(place / "two", features=(4, 8), channels=2)
    with pytest.raises(RequestError) as caught:
        done(place, tmp_path / "out", *names)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_combined_label_map_has_all_labels_and_the_first_model_counts_most(place, tmp_path):
    both = {"masks": str(place / "masks"), "combine": True}
    records = done(place, tmp_path, "phantom", "skin", "ribs", **both)
    assert [r.model for r in records[:4]] == ["phantom", "skin", "ribs", "combined"]
    for name in ("phantom-01", "phantom-02", "phantom-03"):
        one, two, three, all_of_them = (
            np.asarray(nib.load(tmp_path / model / f"{name}_dseg.nii.gz").dataobj)
            for model in ("phantom", "skin", "ribs", "combined")
        )
        wanted = np.select([one > 0, two > 0, three > 0], [one, two + 2, three + 4])
        np.testing.assert_array_equal(all_of_them, wanted)
        said = json.loads((tmp_path / "combined" / f"{name}_dseg.json").read_text())
        assert said["labels"] == {
            "0": "background", "1": "large organ", "2": "small organ", "3": "skin label 1",
            "4": "skin label 2", "5": "ribs label 1", "6": "ribs label 2",
        }  # fmt: skip
        assert said["statistics"]["3"]["voxels"] == (wanted == 3).sum()
    by_model = {r.model: r for r in records[:4]}
    assert by_model["combined"].dice["1"] == by_model["phantom"].dice["1"] > 0.8
    again = done(place, tmp_path, "phantom", "skin", "ribs", **both)
    assert {record.status for record in again} == {"skipped"}
    less = done(place, tmp_path, "phantom", "skin", **both)
    assert {(r.model, r.status) for r in less} == {
        ("phantom", "skipped"), ("skin", "skipped"), ("combined", "done"),
    }  # fmt: skip


def test_nothing_is_combined_where_a_model_has_no_label_map(place, tmp_path):
    (tmp_path / "skin").mkdir()
    (tmp_path / "skin" / "phantom-01_dseg.nii.gz").write_bytes(b"somebody's")
    records = done(place, tmp_path, "liver", "skin", combine=True, images="phantom-01*")
    assert [(r.model, r.code) for r in records] == [
        ("liver", ""), ("skin", "output_foreign"), ("combined", "output_foreign"),
    ]  # fmt: skip


def test_several_models_are_not_planned_together(place):
    both = {"model": str(place / "liver"), "also": (str(place / "skin"),)}
    with pytest.raises(RequestError, match="Plan each model alone"):
        open_plan(SegmentSettings(images=str(place / "images"), output="memory://none", **both))


def test_python_returns_what_each_model_did(place, alone, tmp_path):
    result = up.segment(
        str(place / "images"), model=str(place / "liver"), also=[str(place / "skin")],
        output=str(tmp_path), threads=1,
    )  # fmt: skip
    assert [record.model for record in result] == ["liver"] * 3
    assert result.also["skin"].summary.counts["done"] == 3
    assert result.also["skin"].labels("phantom-01").names[1] == "label 1"
    assert label_maps(tmp_path / "skin") == alone["skin"]


def test_a_file_of_models_is_the_same_run(place, tmp_path):
    """Its results are those of the command line, to their records: another run skips them all."""
    (place / "organs.yaml").write_text("models: [liver, skin]\nwithin: '1,2:5'\ncombine: true\n")
    asked = {"images": str(place / "images"), "model": str(place / "organs.yaml"), "threads": 1}
    result = up.segment(**asked, output=str(tmp_path))
    assert [*result.also] == ["skin", "combined"]
    again = done(place, tmp_path, "liver", "skin", within="1,2:5", combine=True)
    assert [record.status for record in again] == ["skipped"] * 9


@pytest.mark.parametrize("tile", [None, (20, 30, 17)], ids=["one tile", "fanned out"])
def test_a_region_is_looked_at_as_a_volume_that_was_cropped_before(place, tmp_path, tile):
    """What lies in the box is what a run on the cropped file finds; around it is background."""
    records = done(place, tmp_path, "phantom", "skin", within="2:4.5mm", tile=tile)
    assert {record.status for record in records} == {"done"}
    for name in ("phantom-01", "phantom-02", "phantom-03"):
        first = nib.load(tmp_path / "phantom" / f"{name}_dseg.nii.gz")
        hit = np.argwhere(np.asarray(first.dataobj) == 2)
        margin = np.ceil(4.5 / np.array(first.header.get_zooms())).astype(int)
        low = np.maximum(hit.min(axis=0) - margin, 0)
        high = np.minimum(hit.max(axis=0) + 1 + margin, first.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        assert first.shape != tuple(high - low)
        cropped = tmp_path / "cropped"
        cropped.mkdir(exist_ok=True)
        nib.save(nib.load(place / "images" / f"{name}.nii.gz").slicer[box], cropped / f"{name}.nii")
        found = np.asarray(nib.load(tmp_path / "skin" / f"{name}_dseg.nii.gz").dataobj)
        cases = SegmentSettings(
            images=str(cropped / f"{name}.nii"), model=str(place / "skin"),
            output=str(tmp_path / "of-cropped"),
            cluster=ClusterSettings(kind="serial", threads=1),
        )  # fmt: skip
        (record,) = run_segment(open_segment(cases), SerialExecutor())
        np.testing.assert_array_equal(found[box], np.asarray(nib.load(record.output).dataobj))
        outside = found.copy()
        outside[box] = 0
        assert not outside.any()
        assert found.any()


def test_another_region_or_first_model_makes_a_case_again(place, tmp_path):
    def statuses(within, first="liver"):
        records = done(place, tmp_path, first, "skin", within=within)
        return {record.status for record in records if record.model == "skin"}

    assert statuses("1,2:5") == {"done"}
    assert statuses("label 1,label 2:5mm") == {"skipped"}
    assert statuses("1,2:6") == {"done"}
    assert statuses("1,2:6", first="ribs") == {"done"}
    assert statuses(None) == {"done"}


def test_a_case_without_the_region_or_without_the_first_label_map_is_named(place, tmp_path):
    (tmp_path / "liver").mkdir()
    (tmp_path / "liver" / "phantom-01_dseg.nii.gz").write_bytes(b"somebody's")
    asked = {"within": "1:5", "postprocess": ("keep:2",), "images": "phantom-0[12]*"}
    records = done(place, tmp_path, "liver", "skin", **asked)
    assert [(r.model, r.case[-1], r.code) for r in records] == [
        ("liver", "1", "output_foreign"), ("skin", "1", "output_foreign"),
        ("liver", "2", ""), ("skin", "2", "region_empty"),
    ]  # fmt: skip


def test_a_region_of_no_label_is_refused_before_any_work(place, tmp_path):
    with pytest.raises(RequestError, match="a label 'heart', and the model has") as caught:
        done(place, tmp_path / "out", "liver", "skin", within="heart:5")
    assert caught.value.code == "region_invalid"
    with pytest.raises(ValueError, match="within only with also"):
        done(place, tmp_path / "out", "liver", within="1:5")
