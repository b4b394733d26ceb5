"""One volume of a time series, on request; a file of two axes for a 2-D network."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle, transform
from command_line import cli, said

import unet_pipeline as up
from unet_pipeline.networks.bundle_writer import write_bundle
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.axes import Axes
from unet_pipeline.volume.decoding import read_volume

SHAPE = (20, 18, 14)
SERIES = np.random.default_rng(0).integers(-200, 300, (*SHAPE, 3)).astype(np.int16)
AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("one")
    return random_bundle(folder, features=(4, 8), roi_size=(16, 16, 16))


@pytest.fixture(scope="module")
def flat_bundle(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("flat")
    made = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3,
            "channels": [4, 8], "strides": [2]}  # fmt: skip
    write_bundle(
        str(folder), Store(), network=build_network(made, seed=3), network_def=made,
        preprocessing=[transform("Orientationd", axcodes="RAS"), transform("ScaleIntensityd")],
        roi_size=(16, 16, 1), overlap=0.25, labels=dict(enumerate("abc")), channel_names=["image"],
        model_card="", licence="", metadata={}, slice_axis=2,
    )  # fmt: skip
    return str(folder)


def test_a_volume_of_a_series_is_taken_by_its_number_and_said(tmp_path, bundle):
    save(tmp_path / "series" / "a.nii.gz", SERIES)
    save(tmp_path / "masks" / "a.nii.gz", (SERIES[..., 0] > 0).astype(np.uint8))
    save(tmp_path / "single" / "a.nii.gz", SERIES[..., 2])
    where = (tmp_path / "series", "--masks", tmp_path / "masks", "--model", bundle)
    run = ("--output", tmp_path / "out", "--cluster", "serial")
    refused = said("segment", *where, *run)["a"]
    assert refused["code"] == "not_3d"
    assert "--volume 0" in refused["message"]
    done = said("segment", *where, *run, "--volume", 2)["a"]
    assert (done["status"], set(done["dice"])) == ("done", {"1", "2"})
    out = ("--output", tmp_path / "single-out", "--cluster", "serial")
    alone = said("segment", tmp_path / "single", "--model", bundle, *out)["a"]
    assert alone["status"] == "done"
    found, wanted = (nib.load(tmp_path / o / "a_dseg.nii.gz") for o in ("out", "single-out"))
    np.testing.assert_array_equal(found.dataobj, wanted.dataobj)
    assert found.shape == SHAPE
    assert len(np.unique(found.dataobj)) > 1
    sidecar = json.loads((tmp_path / "out" / "a_dseg.json").read_text())
    assert sidecar["settings"]["volume"] == 2
    assert sidecar["gate"]["fixed"] == ["image: volume=2"]
    assert said("segment", *where, *run, "--volume", 2)["a"]["status"] == "skipped"
    assert said("segment", *where, *run, "--volume", 1)["a"]["status"] == "done"
    assert said("plan", *where, "--no-measure", "--volume", 1)["a"]["voxel_bytes"] == SERIES.nbytes


def test_a_volume_that_a_file_does_not_have_is_refused_with_the_numbers_that_it_has(tmp_path):
    save(tmp_path / "images" / "series.nii", SERIES)
    save(tmp_path / "images" / "single.nii", SERIES[..., 0])
    found = said("check", tmp_path / "images", "--volume", 3)
    assert {one["codes"][0] for one in found.values()} == {"volume_outside"}
    assert "3 volumes, 0 to 2" in found["series"]["message"]
    found = said("check", tmp_path / "images", "--volume", 0)
    assert {one["verdict"] for one in found.values()} == {"pass"}
    assert found["series"]["fixed"] == ["image: volume=0"]
    assert found["single"]["fixed"] == []
    wrong = cli("check", tmp_path / "images", "--volume", "-1")
    assert wrong.returncode == 2


def test_check_with_fix_writes_the_volume_alone(tmp_path):
    save(tmp_path / "images" / "a.nii.gz", SERIES)
    save(tmp_path / "masks" / "a.nii.gz", np.uint8(SERIES > 0))
    fix = ("--masks", tmp_path / "masks", "--volume", 1, "--fix", tmp_path / "fixed")
    fixed = said("check", tmp_path / "images", *fix)["a"]["fixed"]
    assert fixed == ["image: volume=1", "mask: volume=1"]
    written = [nib.load(tmp_path / "fixed" / name) for name in ("a.nii.gz", "a_mask.nii.gz")]
    np.testing.assert_array_equal(written[0].dataobj, SERIES[..., 1])
    np.testing.assert_array_equal(written[1].dataobj, SERIES[..., 1] > 0)
    manifest = tmp_path / "fixed" / "manifest.jsonl"
    assert said("check", manifest)["a"]["verdict"] == "pass"


@pytest.mark.parametrize("budget", [10**6, 100], ids=["in memory", "in scratch"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_only_that_volume_is_kept_and_the_file_must_be_whole(tmp_path, name, budget):
    path = save(tmp_path / name, SERIES)
    for volume in range(3):
        view = read_volume(
            Store(), str(path), role="image0", budget_bytes=budget, axes=Axes(volume=volume),
            scratch=str(tmp_path / "scratch"),
        ).view  # fmt: skip
        np.testing.assert_array_equal(view.values(), SERIES[..., volume])
        assert view.header.nbytes == SERIES[..., 0].nbytes
        assert view.value_range == (SERIES[..., volume].min(), SERIES[..., volume].max())
    path.write_bytes(path.read_bytes()[:-100])
    found = said("check", tmp_path, "--volume", 0, "--content")["a"]
    assert found["codes"] == ["file_truncated"]


def test_a_file_of_two_axes_is_one_slice_for_a_2d_network_and_its_label_map_has_two(
    tmp_path, flat_bundle, bundle
):
    flat = np.float32(SERIES[:, :, 3, 0])
    save(tmp_path / "flat" / "a.nii.gz", flat)
    save(tmp_path / "masks" / "a.nii.gz", np.uint8(flat > 0))
    save(tmp_path / "thin" / "a.nii.gz", flat[..., None])
    labels = {}
    for name in ("flat", "thin"):
        where = (tmp_path / name, "--masks", tmp_path / "masks", "--model", flat_bundle)
        assert said("check", *where, "--content")["a"]["verdict"] != "fail"
        out = ("--output", tmp_path / f"{name}-out", "--cluster", "serial")
        done = said("segment", *where, *out)["a"]
        assert done["status"] == "done", done
        assert done["dice"] is not None
        labels[name] = nib.load(tmp_path / f"{name}-out" / "a_dseg.nii.gz")
    assert labels["flat"].shape == flat.shape
    np.testing.assert_array_equal(labels["flat"].affine, labels["thin"].affine)
    np.testing.assert_array_equal(labels["flat"].dataobj, labels["thin"].dataobj[:, :, 0])
    assert len(np.unique(labels["flat"].dataobj)) > 1
    for model in (("--model", bundle), ()):
        refused = said("check", tmp_path / "flat", *model)["a"]
        assert refused["codes"] == ["not_3d"]
        assert "2-D network" in refused["message"]


@pytest.mark.parametrize("kind", ["nifti", "ome-zarr"])
def test_the_label_map_of_a_slice_reads_back_as_one(tmp_path, flat_bundle, kind):
    save(tmp_path / "in" / "a.nii.gz", SERIES[:, :, 4, 0], AFFINE)
    result = up.segment(
        str(tmp_path / "in"), model=flat_bundle, output=str(tmp_path / "out"), output_format=kind
    )
    found = result.labels("a")
    assert found.labels_XYZ.shape == (*SHAPE[:2], 1)
    assert len(np.unique(found.labels_XYZ)) > 1
    np.testing.assert_allclose(found.grid.affine[:2], AFFINE[:2])


def test_a_slice_that_lies_across_those_of_the_network_is_refused(tmp_path, flat_bundle):
    sagittal = np.array([[0, 0, 2.0, 0], [1.5, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]])
    save(tmp_path / "a.nii.gz", np.float32(SERIES[:, :, 3, 0]), sagittal)
    found = said("check", tmp_path, "--model", flat_bundle)["a"]
    assert found["codes"][0] == "slice_across"
    assert "1 x 20 x 18" in found["message"]
