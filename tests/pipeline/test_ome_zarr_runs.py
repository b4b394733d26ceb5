"""Runs over OME-Zarr: the labels of NIfTI, voxel for voxel, from a folder and from S3."""

import json

import nibabel as nib
import numpy as np
import pytest
import zarr
from bundles import random_bundle
from cohorts import write_tiny
from ome_zarr.format import FormatV05
from ome_zarr.writer import write_image

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.jobs.segment import close_segment, faults_of, open_segment, run_segment
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store

WAYS = {
    (0, 1): "left-to-right", (0, -1): "right-to-left",
    (1, 1): "posterior-to-anterior", (1, -1): "anterior-to-posterior",
    (2, 1): "inferior-to-superior", (2, -1): "superior-to-inferior",
}  # fmt: skip


def convert(source, target):
    """Write a NIfTI volume along the axes of the world as the field's own library does."""
    image = nib.load(source)
    values_XYZ, affine = np.asanyarray(image.dataobj), image.affine
    axes, scale, start = [], [], []
    for column, name in enumerate("xyz"):
        world = int(np.argmax(np.abs(affine[:3, column])))
        sign = int(np.sign(affine[world, column]))
        way = {"type": "anatomical", "value": WAYS[world, sign]}
        axes.append({"name": name, "type": "space", "unit": "millimeter", "orientation": way})
        scale.append(float(abs(affine[world, column])))
        start.append(float(sign * affine[world, 3]))
    place = [{"type": "scale", "scale": scale[::-1]},
             {"type": "translation", "translation": start[::-1]}]  # fmt: skip
    root = zarr.open_group(str(target), mode="w", zarr_format=3)
    write_image(
        values_XYZ.T, root, scaler=None, axes=axes[::-1], fmt=FormatV05(),
        coordinate_transformations=[place], storage_options={"chunks": (16, 16, 16)},
    )  # fmt: skip


def made_in_both(root, count):
    """Write a cohort in both formats and a bundle, and segment that in NIfTI."""
    names = write_tiny(Store(), str(root / "nifti"), count)
    for kind in ("images", "masks"):
        for name in names:
            source = root / "nifti" / kind / f"{name}.nii.gz"
            convert(source, root / "zarr" / kind / f"{name}.ome.zarr")
    bundle = random_bundle(root / "bundle", features=(4, 8))
    run_on(root / "nifti", bundle, root / "out")
    return root, names, bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cohort in both formats, a bundle, and the label maps of NIfTI."""
    return made_in_both(tmp_path_factory.mktemp("both"), 3)


def use_s3(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.options.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.options.secret)


def run_on(place, bundle, output, executor=None, **changes):
    where = {"images": f"{place}/images", "masks": f"{place}/masks"}
    settings = SegmentSettings(
        model=bundle, output=str(output), cluster=ClusterSettings(kind="serial", threads=1),
        **where | changes,
    )  # fmt: skip
    run = open_segment(settings)
    records = [*faults_of(run), *run_segment(run, executor or SerialExecutor())]
    close_segment(run, records, seconds=1.0, workers=1)
    return {record.case: record for record in records}


def test_the_labels_are_those_of_nifti_and_a_finished_case_stays_done(made, tmp_path):
    root, names, bundle = made
    records = run_on(root / "zarr", bundle, tmp_path)
    assert {record.status for record in records.values()} == {"done"}
    for name in names:
        of_nifti, of_zarr = (
            nib.load(folder / f"{name}_dseg.nii.gz") for folder in (root / "out", tmp_path)
        )
        np.testing.assert_array_equal(np.asarray(of_zarr.dataobj), np.asarray(of_nifti.dataobj))
        np.testing.assert_allclose(of_zarr.affine, of_nifti.affine, atol=1e-5)
        sidecar = json.loads((tmp_path / f"{name}_dseg.json").read_text())
        assert [one["role"] for one in sidecar["inputs"]] == [
            "image0", "image0.voxels", "mask", "mask.voxels"
        ]  # fmt: skip
        assert records[name].dice == pytest.approx(
            json.loads((root / "out" / f"{name}_dseg.json").read_text())["dice"]
        )
    again = run_on(root / "zarr", bundle, tmp_path)
    assert {record.status for record in again.values()} == {"skipped"}
    mask = zarr.open_array(str(root / "zarr/masks" / f"{names[0]}.ome.zarr" / "0"), mode="r+")
    mask[0, 0, 0] = 1
    third = run_on(root / "zarr", bundle, tmp_path)
    mask[0, 0, 0] = 0
    assert {name for name, record in third.items() if record.status == "done"} == {names[0]}


def test_from_object_storage(made, s3, tmp_path, monkeypatch):
    root, names, bundle = made
    use_s3(s3, monkeypatch)
    bucket = s3.bucket()
    for file in sorted((root / "zarr").rglob("*")):
        if file.is_file():
            s3.store.write(f"{bucket}/{file.relative_to(root / 'zarr')}", file.read_bytes())
    cohort = discover(s3.store, f"{bucket}/images", f"{bucket}/masks")
    assert [case.name for case in cohort.cases] == names
    assert [one.file for one in cohort.files] == [
        f"{bucket}/{kind}/{name}.ome.zarr" for kind in ("images", "masks") for name in names
    ]
    records = run_on(bucket, bundle, tmp_path)
    assert {record.status for record in records.values()} == {"done"}
    for name in names:
        of_nifti, of_zarr = (
            np.asarray(nib.load(folder / f"{name}_dseg.nii.gz").dataobj)
            for folder in (root / "out", tmp_path)
        )
        np.testing.assert_array_equal(of_zarr, of_nifti)
    again = run_on(bucket, bundle, tmp_path)
    assert {record.status for record in again.values()} == {"skipped"}
