"""Runs that write OME-Zarr: the labels of NIfTI, voxel for voxel, to a folder and to S3."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from test_ome_zarr_runs import made_in_both, run_on, use_s3

import unet_pipeline as up
from unet_pipeline.cluster.dask_executor import DaskExecutor
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import ClusterSettings, PlanSettings, SegmentSettings
from unet_pipeline.jobs.plan import open_plan, run_plan
from unet_pipeline.records import CaseRecord
from unet_pipeline.runs import open_segment
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.probe import probe_header

OME = {"output_format": "ome-zarr"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cohort in both formats, a bundle, and label maps in NIfTI."""
    return made_in_both(tmp_path_factory.mktemp("both"), 2)


def of_nifti(made, name):
    image = nib.load(made[0] / "out" / f"{name}_dseg.nii.gz")
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("kind", ["nifti", "zarr"])
def test_the_labels_are_those_of_nifti_on_the_grid_of_the_image(made, tmp_path, kind):
    root, names, bundle = made
    records = run_on(root / kind, bundle, tmp_path, **OME)
    assert {record.status for record in records.values()} == {"done"}
    for name in names:
        url = str(tmp_path / f"{name}_dseg.ome.zarr")
        assert records[name].output == url
        labels_XYZ, affine = of_nifti(made, name)
        np.testing.assert_array_equal(zarr.open_array(f"{url}/0", mode="r")[:].T, labels_XYZ)
        (node,) = list(Reader(parse_url(url))())
        np.testing.assert_array_equal(np.asarray(node.data[0]).T, labels_XYZ)
        ending = {"nifti": ".nii.gz", "zarr": ".ome.zarr"}[kind]
        image = probe_header(Store(), str(root / kind / "images" / f"{name}{ending}")).header
        header = probe_header(Store(), url).header
        assert header.grid == image.grid
        np.testing.assert_allclose(header.grid.affine, affine, atol=1e-5)
        assert records[name].dice == pytest.approx(
            json.loads((root / "out" / f"{name}_dseg.json").read_text())["dice"]
        )


def test_names_and_colours_are_those_of_the_report(made, tmp_path):
    root, names, bundle = made
    run_on(root / "nifti", bundle, tmp_path, **OME)
    metadata = json.loads((tmp_path / f"{names[0]}_dseg.ome.zarr" / "zarr.json").read_text())
    said = json.loads((tmp_path / f"{names[0]}_dseg.json").read_text())
    label = metadata["attributes"]["ome"]["image-label"]
    assert {str(one["label-value"]): one["name"] for one in label["properties"]} == said["labels"]
    assert label["colors"][1] == {"label-value": 1, "rgba": [230, 159, 0, 255]}


def test_a_finished_case_is_skipped_and_one_of_another_format_is_not(made, tmp_path):
    root, names, bundle = made
    run_on(root / "nifti", bundle, tmp_path, **OME)
    again = run_on(root / "nifti", bundle, tmp_path, **OME)
    assert {record.status for record in again.values()} == {"skipped"}
    chunk = next((tmp_path / f"{names[0]}_dseg.ome.zarr" / "0" / "c").rglob("0"))
    chunk = next(file for file in chunk.rglob("*") if file.is_file())
    chunk.unlink()
    healed = run_on(root / "nifti", bundle, tmp_path, **OME)
    assert [healed[name].status for name in names] == ["done", "skipped"]
    assert chunk.exists()
    other = run_on(root / "nifti", bundle, tmp_path)
    assert {record.status for record in other.values()} == {"done"}
    assert sorted(path.name for path in tmp_path.glob("*_dseg*")) == sorted(
        f"{name}_dseg{ending}" for name in names for ending in (".nii.gz", ".json", ".png")
    )


def test_settings_of_nifti_are_what_they_were(made):
    """A record that an earlier version wrote still counts as done."""
    root, names, _ = made
    said = json.loads((root / "out" / f"{names[0]}_dseg.json").read_text())
    assert "output_format" not in said["settings"]


def test_to_object_storage(made, s3, tmp_path, monkeypatch):
    root, names, bundle = made
    use_s3(s3, monkeypatch)
    bucket = s3.bucket()
    records = run_on(root / "zarr", bundle, bucket, **OME)
    run_on(root / "zarr", bundle, tmp_path, **OME)
    assert {record.status for record in records.values()} == {"done"}
    for name in names:
        url = f"{bucket}/{name}_dseg.ome.zarr"
        found, _ = read_labels(s3.store, url, budget_bytes=10**9)
        np.testing.assert_array_equal(found, of_nifti(made, name)[0])
        for file in s3.store.objects_below(f"{url}/"):
            here = tmp_path / f"{name}_dseg.ome.zarr" / file
            assert s3.store.read(f"{url}/{file}") == here.read_bytes()
    again = run_on(root / "zarr", bundle, bucket, **OME)
    assert {record.status for record in again.values()} == {"skipped"}


def test_workers_write_the_same_bytes(made, tmp_path):
    root, names, bundle = made
    run_on(root / "nifti", bundle, tmp_path / "one", **OME)
    with open_executor(ClusterSettings(kind="local", workers=1, threads=1).spec()) as executor:
        assert isinstance(executor, DaskExecutor)
        run_on(root / "nifti", bundle, tmp_path / "two", executor=executor, **OME)
    for name in names:
        one, two = (
            {file: store.read(f"{folder}{file}") for file in store.objects_below(folder)}
            for store, folder in (
                (Store(), f"{tmp_path / part / name}_dseg.ome.zarr/") for part in ("one", "two")
            )
        )
        assert one == two


def test_label_maps_of_ours_are_not_listed_as_images_or_masks(made, tmp_path):
    root, names, bundle = made
    for name in names:
        (tmp_path / f"{name}.nii.gz").write_bytes(
            (root / "nifti" / "images" / f"{name}.nii.gz").read_bytes()
        )
    settings = SegmentSettings(
        images=str(tmp_path), model=bundle, output=str(tmp_path),
        cluster=ClusterSettings(kind="serial", threads=1), **OME,
    )  # fmt: skip
    result = up.segment(str(tmp_path), model=bundle, output=str(tmp_path), threads=1, **OME)
    assert [record.status for record in result] == ["done", "done"]
    cohort = discover(Store(), str(tmp_path))
    assert [case.name for case in cohort.cases] == names
    kinds = {Path(one.file).name: one.kind for one in cohort.files}
    assert kinds[f"{names[0]}_dseg.ome.zarr"] == kinds[f"{names[0]}_dseg.json"] == "ours"
    assert len(open_segment(settings).cases) == len(names)


def test_the_front_door_reads_it_as_an_array(made, tmp_path):
    root, names, bundle = made
    result = up.segment(
        str(root / "nifti" / "images"), model=bundle, output=str(tmp_path), threads=1, **OME
    )
    found = result.labels(names[0])
    labels_XYZ, affine = of_nifti(made, names[0])
    np.testing.assert_array_equal(found.labels_XYZ, labels_XYZ)
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-5)


def test_an_oblique_image_is_refused_before_any_work_and_in_a_plan(made, tmp_path):
    root, names, bundle = made
    image = nib.load(root / "nifti" / "images" / f"{names[0]}.nii.gz")
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    (tmp_path / "images").mkdir()
    nib.save(
        nib.Nifti1Image(np.asarray(image.dataobj), tilt @ image.affine),
        tmp_path / "images" / "tilted.nii.gz",
    )
    settings = {"model": bundle, "cluster": ClusterSettings(kind="serial", threads=1)}
    images, output = str(tmp_path / "images"), str(tmp_path / "out")
    result = up.segment(images, model=bundle, output=output, threads=1, **OME)
    assert [(one.status, one.code) for one in result] == [("quarantined", "grid_not_axis_aligned")]
    assert not list((tmp_path / "out").glob("*_dseg*"))
    (planned,) = run_plan(open_plan(PlanSettings(images=images, **OME, **settings)))
    assert isinstance(planned, CaseRecord)
    assert planned.code == "grid_not_axis_aligned"
    assert [one.status for one in up.segment(images, model=bundle, output=output, threads=1)] == [
        "done"
    ]


def test_a_run_that_is_killed_while_it_writes_is_finished_by_the_next(made, tmp_path):
    root, names, bundle = made
    command = [
        sys.executable, "-m", "unet_pipeline", "segment", str(root / "nifti" / "images"),
        "--model", bundle, "--output", str(tmp_path), "--cluster", "serial", "--threads", "1",
        "--output-format", "ome-zarr",
    ]  # fmt: skip
    folder = tmp_path / f"{names[0]}_dseg.ome.zarr"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not folder.exists() and process.poll() is None:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    records = run_on(root / "nifti", bundle, tmp_path, **OME)
    assert {record.status for record in records.values()} <= {"done", "skipped"}
    for name in names:
        found, _ = read_labels(Store(), str(tmp_path / f"{name}_dseg.ome.zarr"), budget_bytes=10**9)
        np.testing.assert_array_equal(found, of_nifti(made, name)[0])
