"""``statistics``: label maps of others and of ours are measured, and the odd ones are named."""

import json

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from cohorts import write_tiny
from command_line import cli

import unet_pipeline as up
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import close_segment, open_segment, run_segment
from unet_pipeline.storage.label_names import read_label_names
from unet_pipeline.storage.store import Store

AFFINE = np.diag([-2.0, 1.0, 1.5, 1.0])


def save(path, values_XYZ):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values_XYZ, AFFINE), path)


def block(side, label=1):
    labels_XYZ = np.zeros((12, 12, 12), np.uint8)
    labels_XYZ[2 : 2 + side, 3:7, 4:8] = label
    return labels_XYZ


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Label maps of somebody else, one of them unlike the others, and their images."""
    root = tmp_path_factory.mktemp("others")
    for index in range(24):
        labels_XYZ = block(8 if index == 17 else 4)
        labels_XYZ[9:11, 9:11, 9:11] = 2
        save(root / f"masks/p{index:02d}_seg.nii.gz", labels_XYZ)
        save(root / f"scans/p{index:02d}.nii.gz", 100 * labels_XYZ.astype(np.int16) + 7)
    save(root / "scans/alone.nii.gz", np.arange(1728, dtype=np.int16).reshape(12, 12, 12))
    (root / "masks/dseg.tsv").write_text("index\tname\tcolor\n1\tliver\t#ff0000\n3\tspleen\t\n")
    return root


def test_label_maps_of_others_and_the_odd_one(masks, tmp_path):
    found = up.statistics(f"{masks}/masks", f"{masks}/scans", output=str(tmp_path))
    assert found.summary.counts == {"done": 24, "skipped": 0, "quarantined": 0}
    assert (found.summary.without, found.summary.labels) == (1, {"1": "liver", "3": "spleen"})
    liver = found["p00"].statistics["1"]
    assert (liver["voxels"], liver["volume_ml"], liver["mean"]) == (64, 0.192, 107.0)
    assert found["p00"].statistics["3"]["voxels"] == 0
    (first, *rest) = found.to_review()
    assert (first.case, rest) == ("p17", [])
    assert [one.label for one in found.summary.sizes] == ["1", "2", "3"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert {one.name for one in folder.iterdir()} == {
        "review.csv", "statistics.csv", "statistics.html", "statistics.json", "statistics.parquet"
    }  # fmt: skip
    lines = (folder / "statistics.csv").read_text().splitlines()
    assert len(lines) == 1 + 24 * 3
    assert lines[1].startswith("p00,1,liver,64,0.192,")
    page = (folder / "statistics.html").read_text()
    assert page.count("<img src=") == 1
    assert "1 of 24 label maps wants a look" in page
    assert "liver: volume 0.384 ml" in page


def test_left_and_right_are_held_against_the_names(masks):
    """The first axis goes to the left: label 1 has the lower index, and lies right of label 2."""
    few = f"{masks}/masks/p0*"
    (masks / "right.json").write_text('{"1": "lung right", "2": "lung left"}')
    (masks / "wrong.json").write_text('{"1": "lung left", "2": "lung right"}')
    assert up.statistics(few, label_names=f"{masks}/right.json").to_review() == []
    (found,) = up.statistics(few, label_names=f"{masks}/wrong.json").to_review()
    assert "in 10 of 10 cases: do names or headers exchange sides?" in found.doubts[0].what


def test_label_maps_alone(masks):
    found = up.statistics(f"{masks}/masks/p0*")
    assert [one.case for one in found] == [f"p{index:02d}_seg" for index in range(10)]
    assert "mean" not in found[0].statistics["1"]
    assert found[0].statistics["1"]["x_min_mm"] == pytest.approx(-2 * 5.5)
    assert "volume, ml" in found._repr_html_()


@pytest.mark.parametrize("kind", ["nifti", "ome-zarr"])
def test_ours_are_known_by_their_records_as_long_as_they_are_theirs(tmp_path, kind):
    write_tiny(Store(), str(tmp_path), 2)
    run = open_segment(
        SegmentSettings(
            images=f"{tmp_path}/images", model=random_bundle(tmp_path / "b", features=(4, 8)),
            output=f"{tmp_path}/out", cluster=ClusterSettings(kind="serial", threads=1),
            output_format=kind,
        )
    )  # fmt: skip
    records = list(run_segment(run, SerialExecutor()))
    summary = close_segment(run, records, seconds=1.0, workers=1)
    found = up.statistics(f"{tmp_path}/out", output=f"{tmp_path}/numbers")
    assert found.summary.counts == {"done": 0, "skipped": 2, "quarantined": 0}
    csv = summary.table.replace("cases.csv", "statistics.csv")
    assert Store().read(found.summary.table) == Store().read(csv)
    if kind != "nifti":
        return
    edited = f"{tmp_path}/out/phantom-01_dseg.nii.gz"
    image = nib.load(edited)
    labels_XYZ = np.asarray(image.dataobj)
    labels_XYZ[:] = 0
    labels_XYZ[:2, :2, :2] = 1
    nib.save(nib.Nifti1Image(labels_XYZ, image.affine), edited)
    for images in (None, f"{tmp_path}/images"):
        again = up.statistics(f"{tmp_path}/out", images)
        assert (again[0].case, again[0].status) == ("phantom-01", "done")
        assert again[0].statistics["1"]["voxels"] == 8
        assert ("mean" in again[0].statistics["1"]) == bool(images)


@pytest.mark.parametrize("with_images", [False, True])
def test_a_file_for_each_structure(tmp_path, with_images):
    for case in ("s1", "s2"):
        save(tmp_path / f"in/{case}/segmentations/spleen.nii.gz", block(2))
        save(tmp_path / f"in/{case}/segmentations/aorta.nii.gz", block(4) - block(2))
        save(tmp_path / f"in/{case}/ct.nii.gz", 50 + block(12).astype(np.int16))
    found = up.statistics(f"{tmp_path}/in", f"{tmp_path}/in" if with_images else None)
    assert [one.case.partition("/")[0] for one in found] == ["s1", "s2"]
    assert found.summary.labels == {"1": "aorta", "2": "spleen"}
    assert [found[0].statistics[one]["voxels"] for one in "12"] == [32, 32]


def test_what_is_no_label_map_is_left_out(tmp_path):
    save(tmp_path / "in/a_seg.nii.gz", block(3))
    save(tmp_path / "in/half_seg.nii.gz", block(3) * np.float32(0.5))
    save(tmp_path / "in/image_seg.nii.gz", np.arange(1728, dtype=np.int16).reshape(12, 12, 12))
    done = cli("statistics", tmp_path / "in", "--json")
    *records, summary = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert {one["case"]: one["code"] for one in records} == {
        "a_seg": "", "half_seg": "mask_not_integer", "image_seg": "labels_too_many"
    }  # fmt: skip
    assert summary["counts"] == {"done": 1, "skipped": 0, "quarantined": 2}
    (tmp_path / "none").mkdir()
    with pytest.raises(RequestError) as raised:
        up.statistics(f"{tmp_path}/none")
    assert raised.value.code == "labels_empty"


def test_the_command(masks):
    done = cli("statistics", masks / "masks", "--images", masks / "scans")
    assert done.returncode == 0, done.stderr
    assert "look at p17: liver: volume 0.384 ml, usually 0.192 ml to 0.192 ml" in done.stdout
    assert "24 measured" in done.stdout
    assert "1 images have no label map" in done.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dseg.tsv", "name\tindex\nliver\t1\nspleen\t7\n"),
        ("names.json", '{"1": "liver", "7": "spleen"}'),
        ("dataset.json", '{"labels": {"background": 0, "liver": 1, "spleen": 7, "both": [1, 7]}}'),
        ("msd.json", '{"labels": {"0": "background", "1": "liver", "7": "spleen"}}'),
    ],
)
def test_names_of_labels(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_label_names(Store(), str(tmp_path / name)) == {1: "liver", 7: "spleen"}


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', '{"-1": "x"}'])
def test_no_names_of_labels(tmp_path, text):
    for name in ("x.json", "x.tsv"):
        (tmp_path / name).write_text(text)
        with pytest.raises(RequestError) as raised:
            read_label_names(Store(), str(tmp_path / name))
        assert raised.value.code == "label_names_invalid"
