"""Masks in the folder of their image, as ome-zarr-py writes them, at the level asked for."""

import shutil

import nibabel as nib
import numpy as np
import pytest
import zarr
from bundles import random_bundle
from cohorts import write_tiny
from command_line import said
from ome_zarr.format import FormatV05
from ome_zarr.writer import write_multiscale, write_multiscale_labels
from test_ome_zarr_runs import WAYS, run_on, use_s3

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, CompareSettings, GateSettings, RemedySettings
from unet_pipeline.jobs.compare import open_compare, run_compare
from unet_pipeline.storage.store import Store

LEVELS = 2


def halved(values_XYZ, level):
    return values_XYZ[:: 2**level, :: 2**level, :: 2**level]


def place_of(affine):
    """Return axes and transformations of each level as OME-Zarr has them, in the order z, y, x."""
    axes, steps, start = [], [], []
    for column, name in enumerate("xyz"):
        world = int(np.argmax(np.abs(affine[:3, column])))
        sign = int(np.sign(affine[world, column]))
        way = {"type": "anatomical", "value": WAYS[world, sign]}
        axes.append({"name": name, "type": "space", "unit": "millimeter", "orientation": way})
        steps.append(float(abs(affine[world, column])))
        start.append(float(sign * affine[world, 3]))
    transforms = [
        [{"type": "scale", "scale": [step * 2**level for step in steps[::-1]]},
         {"type": "translation", "translation": start[::-1]}] for level in range(LEVELS)
    ]  # fmt: skip
    return {"axes": axes[::-1], "coordinate_transformations": transforms}


def write_with_labels(folder, image, masks):
    """Write an image and label images within it."""
    root = zarr.open_group(str(folder), mode="w", zarr_format=3)
    how = {
        "fmt": FormatV05(), "storage_options": {"chunks": (16, 16, 16)}, **place_of(image.affine)
    }  # fmt: skip
    values_XYZ = np.asanyarray(image.dataobj)
    write_multiscale([halved(values_XYZ, n).T for n in range(LEVELS)], root, **how)
    for name, mask_XYZ in masks.items():
        pyramid = [halved(mask_XYZ, n).T for n in range(LEVELS)]
        write_multiscale_labels(pyramid, root, name, **how)


def save(path, values_XYZ, affine, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = affine @ np.diag([2.0**level] * 3 + [1])
    nib.save(nib.Nifti1Image(halved(values_XYZ, level), coarse), path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cohort with masks within, the same as NIfTI for each level, and two bundles."""
    root = tmp_path_factory.mktemp("within")
    names = write_tiny(Store(), str(root / "nifti"), 2)
    for name in names:
        image, mask = (
            nib.load(root / "nifti" / kind / f"{name}.nii.gz") for kind in ("images", "masks")
        )
        mask_XYZ = np.asanyarray(mask.dataobj)
        write_with_labels(root / "zarr" / f"{name}.ome.zarr", image, {"organs": mask_XYZ})
        for level in range(LEVELS):
            flat = root / f"level{level}"
            save(flat / "images" / f"{name}.nii.gz", np.asanyarray(image.dataobj), image.affine,
                 level)  # fmt: skip
            save(flat / "masks" / f"{name}.nii.gz", mask_XYZ, mask.affine, level)
    models = [random_bundle(root / one, features=(4, 8), seed=n) for n, one in enumerate("ab")]
    return root, names, models


def with_masks_within(place, bundle, output, **changes):
    return run_on(place, bundle, output, images=str(place), masks=str(place), **changes)


@pytest.mark.parametrize("level", range(LEVELS))
def test_the_dice_is_that_of_the_same_masks_in_nifti(made, tmp_path, level):
    root, names, (bundle, _) = made
    gate = GateSettings(level=level)
    found = with_masks_within(root / "zarr", bundle, tmp_path / "zarr", gate=gate)
    expected = run_on(root / f"level{level}", bundle, tmp_path / "nifti")
    for name in names:
        assert found[name].status == "done"
        assert found[name].mask_code == ""
        assert found[name].dice == expected[name].dice
    again = with_masks_within(root / "zarr", bundle, tmp_path / "zarr", gate=gate)
    assert {record.status for record in again.values()} == {"skipped"}


def test_another_mask_makes_the_case_new(made, tmp_path):
    root, names, (bundle, _) = made
    shutil.copytree(root / "zarr", tmp_path / "in")
    with_masks_within(tmp_path / "in", bundle, tmp_path / "out")
    labels = tmp_path / "in" / f"{names[0]}.ome.zarr" / "labels" / "organs"
    zarr.open_array(str(labels / "0"), mode="r+")[0, 0, 0] = 1
    again = with_masks_within(tmp_path / "in", bundle, tmp_path / "out")
    assert [again[name].status for name in names] == ["done", "skipped"]


def test_from_object_storage(made, s3, tmp_path, monkeypatch):
    root, names, (bundle, _) = made
    use_s3(s3, monkeypatch)
    bucket = s3.bucket()
    for file in sorted((root / "zarr").rglob("*")):
        if file.is_file():
            s3.store.write(f"{bucket}/{file.relative_to(root / 'zarr')}", file.read_bytes())
    here = with_masks_within(root / "zarr", bundle, tmp_path / "here")
    there = run_on(bucket, bundle, tmp_path / "there", images=bucket, masks=bucket)
    assert {name: there[name].dice for name in names} == {name: here[name].dice for name in names}


@pytest.mark.parametrize("output_format", ["nifti", "ome-zarr"])
@pytest.mark.parametrize("level", range(LEVELS))
def test_bundles_are_compared_at_the_level_that_is_asked_for(made, tmp_path, level, output_format):
    root, _, models = made

    def compared(images, masks, **changes):
        settings = CompareSettings(
            images=str(images), masks=str(masks), models=models, output=str(tmp_path / images.name),
            cluster=ClusterSettings(kind="serial", threads=1), **changes,
        )  # fmt: skip
        return run_compare(open_compare(settings), SerialExecutor())

    found = compared(
        root / "zarr", root / "zarr", gate=RemedySettings(level=level), output_format=output_format
    )
    flat = root / f"level{level}"
    expected = compared(flat / "images", flat / "masks")
    assert found.cases == expected.cases == 2
    assert [one.metrics for one in found.results] == [one.metrics for one in expected.results]


def test_several_masks_are_named_and_check_looks_at_the_one_that_is_picked(made, tmp_path):
    root, names, _ = made
    image, mask = (
        nib.load(root / "nifti" / kind / f"{names[0]}.nii.gz") for kind in ("images", "masks")
    )
    mask_XYZ = np.asanyarray(mask.dataobj)
    write_with_labels(
        tmp_path / "x.ome.zarr", image, {"organs": mask_XYZ, "halves": mask_XYZ * np.float32(0.5)}
    )
    both = said("check", tmp_path, "--masks", tmp_path)["x"]
    assert both["codes"] == ["mask_ambiguous"]
    assert "organs, halves" in both["message"]
    one = said("check", tmp_path, "--mask-pattern", "{case}.ome.zarr/labels/halves", "--content")[
        "x"
    ]
    assert one["codes"][0] == "mask_not_integer"
    one = said("check", tmp_path, "--mask-pattern", "{case}.ome.zarr/labels/organs")["x"]
    assert one["verdict"] == "pass"
