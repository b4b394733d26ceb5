"""NaN is refused by the name of its file, and taken for a number on request."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from command_line import cli, said

from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_volume


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Of `a` the mask's background is NaN, of `b` the image's border."""
    folder = tmp_path_factory.mktemp("nan")
    phantom = make_phantom(3, shape=(40, 36, 30), spacing_mm=(2.2, 2.2, 3.0))
    image, mask = phantom.image_XYZ.astype(np.float32), phantom.mask_XYZ.astype(np.float32)
    border, hollow = image.astype(np.float64), mask.copy()
    border[:2] = np.nan
    hollow[mask == 0] = np.nan
    for kind, name, values in (
        ("images", "a", image), ("masks", "a", hollow),
        ("images", "b", border), ("masks", "b", mask),
    ):  # fmt: skip
        (folder / kind).mkdir(exist_ok=True)
        made = nib.Nifti1Image(values, phantom.affine)
        made.set_qform(phantom.affine, 2)
        made.header.set_xyzt_units("mm")
        nib.save(made, folder / kind / f"{name}.nii.gz")
    return folder


def test_which_file_holds_nan_and_what_helps_is_said(cohort):
    found = said("check", cohort / "images", "--masks", cohort / "masks", "--content")
    assert found["a"]["codes"] == found["b"]["codes"] == ["voxels_not_finite"]
    assert "mask voxels that are NaN" in found["a"]["message"]
    assert "--remedies nan-to-zero" in found["a"]["message"]
    assert "--remedies nan-to-min" in found["b"]["message"]
    assert "--remedies nan=-1024" in found["b"]["message"]
    assert "mask" not in found["b"]["message"]


def test_nan_is_taken_for_a_number_on_request_and_recorded(cohort, tmp_path):
    where = (cohort / "images", "--masks", cohort / "masks")
    remedies = ("--remedies", "nan-to-zero,nan-to-min")
    checked = said("check", *where, "--content", *remedies, "--fix", tmp_path / "fixed")
    assert {one["verdict"] for one in checked.values()} == {"pass"}
    run = (*where, "--model", "phantom", "--output", tmp_path / "out", "--cluster", "serial")
    done = said("segment", *run, *remedies)
    assert {one["status"] for one in done.values()} == {"done"}
    assert min(done["a"]["dice"].values()) > 0.8
    for name, fixed in (("a", "mask: nan-to-zero"), ("b", "image: nan-to-min")):
        assert checked[name]["fixed"] == [fixed]
        sidecar = json.loads((tmp_path / "out" / f"{name}_dseg.json").read_text())
        assert sidecar["gate"]["fixed"] == [fixed]
    fixed = np.asarray(nib.load(tmp_path / "fixed" / "a_mask.nii.gz").dataobj)
    wanted = np.nan_to_num(np.asarray(nib.load(cohort / "masks" / "a.nii.gz").dataobj))
    np.testing.assert_array_equal(fixed, wanted)
    image = np.asarray(nib.load(tmp_path / "fixed" / "b.nii.gz").dataobj)
    assert (image[:2] == image[2:].min()).all()


def test_nan_is_a_value_that_the_request_gives_and_the_record_names_it(cohort, tmp_path):
    plain = nib.load(cohort / "images" / "b.nii.gz")
    values = np.nan_to_num(np.asarray(plain.dataobj), nan=-1024)
    (tmp_path / "images").mkdir()
    nib.save(nib.Nifti1Image(values, plain.affine), tmp_path / "images" / "b.nii.gz")
    model = random_bundle(tmp_path / "model", features=(4, 8), roi_size=(16, 16, 16))
    run, labels = ("--model", model, "--cluster", "serial"), {}
    for name, folder in (("given", cohort), ("filled", tmp_path)):
        remedies = ("--remedies", "nan=-1024") if name == "given" else ()
        where = (folder / "images" / "b.nii.gz", *run, "--output", tmp_path / name)
        assert said("segment", *where, *remedies)["b"]["status"] == "done"
        labels[name] = np.asarray(nib.load(tmp_path / name / "b_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(labels["given"], labels["filled"])
    sidecar = json.loads((tmp_path / "given" / "b_dseg.json").read_text())
    assert sidecar["gate"]["fixed"] == ["image: nan=-1024"]
    assert sidecar["settings"]["remedies"] == ["nan=-1024"]


@pytest.mark.parametrize("remedies", ["nan=", "nan=x", "nan=inf", "nan=1e9", "nan=1,nan-to-min"])
def test_a_value_for_nan_is_one_plain_number(cohort, remedies):
    done = cli("check", cohort / "images", "--remedies", remedies)
    assert done.returncode == 2
    assert "--remedies" in done.stderr or "one number that NaN" in done.stderr


def test_a_value_for_nan_is_in_the_units_of_the_image(tmp_path):
    image = nib.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4))
    image.dataobj[0] = np.arange(16).reshape(4, 4)
    image.header.set_slope_inter(2, 100)
    file = tmp_path / "a.nii"
    file.write_bytes(image.to_bytes())
    read = read_volume(Store(), str(file), role="image0", budget_bytes=10**6, nan=-1024.0)
    values = np.asarray(nib.load(file).dataobj)
    np.testing.assert_array_equal(read.view.values(), np.nan_to_num(values, nan=-1024))
    assert read.view.value_range == (-562, 15)


@pytest.mark.parametrize("budget", [10**7, 1000], ids=["in memory", "in scratch"])
def test_holes_are_filled_wherever_voxels_lie(tmp_path, budget):
    values = np.random.default_rng(0).normal(size=(9, 8, 70)).astype(np.float32)
    values[3, 4, 10:60] = np.nan
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    view = read_volume(
        Store(), str(tmp_path / "a.nii"), role="image0", budget_bytes=budget, nan="min",
        scratch=str(tmp_path / "scratch"),
    ).view  # fmt: skip
    low = np.nanmin(values)
    np.testing.assert_array_equal(view.values(), np.nan_to_num(values, nan=low))
    assert view.value_range == (low, np.nanmax(values))
    assert view.filled == 50


def test_infinite_values_and_images_of_nan_are_still_refused(tmp_path):
    for name, values in (("inf", np.full((4, 4, 4), np.inf)), ("nan", np.full((4, 4, 4), np.nan))):
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii")
    found = said("check", tmp_path, "--content", "--remedies", "nan-to-min,nan-to-zero")
    assert {one["codes"][0] for one in found.values()} == {"voxels_not_finite"}
    assert {one["verdict"] for one in found.values()} == {"fail"}
