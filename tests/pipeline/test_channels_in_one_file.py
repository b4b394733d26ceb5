"""A file of X, Y, Z and channels, as MSD's Task01 and Task05 are, is an image of that many."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from command_line import said

from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.axes import Axes
from unet_pipeline.volume.staging import decode

SHAPE = (20, 18, 14)
VALUES = np.random.default_rng(0).normal(50, 60, (*SHAPE, 2)).astype(np.float32)
AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])


def save(path: Path, values: np.ndarray, kind=nib.Nifti1Image) -> Path:
    path.parent.mkdir(exist_ok=True)
    nib.save(kind(values, AFFINE), path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("two")
    return random_bundle(folder, channels=2, features=(4, 8), roi_size=(16, 16, 16))


def test_channels_in_one_file_give_the_labels_of_channels_in_two(tmp_path, bundle):
    save(tmp_path / "one" / "a.nii.gz", VALUES)
    save(tmp_path / "five" / "a.nii.gz", VALUES[:, :, :, None], nib.Nifti2Image)  # NIfTI's vectors
    for channel in range(2):
        save(tmp_path / "two" / f"a_000{channel}.nii.gz", VALUES[..., channel])
    labels = {}
    for name in ("one", "five", "two"):
        where = (tmp_path / name, "--model", bundle)
        assert said("check", *where, "--content")["a"]["verdict"] == "pass"
        out = tmp_path / f"{name}-out"
        done = said("segment", *where, "--output", out, "--cluster", "serial")["a"]
        assert done["status"] == "done", done
        planned = said("plan", tmp_path / name, "--model", bundle, "--no-measure")["a"]
        assert planned["windows"] == done["windows"]
        assert planned["voxel_bytes"] == VALUES.nbytes
        labels[name] = np.asarray(nib.load(out / "a_dseg.nii.gz").dataobj)
        assert labels[name].shape == SHAPE
        again = said("segment", *where, "--output", out, "--cluster", "serial")["a"]
        assert again["status"] == "skipped"
    assert len(np.unique(labels["two"])) > 1
    np.testing.assert_array_equal(labels["one"], labels["two"])
    np.testing.assert_array_equal(labels["five"], labels["two"])


@pytest.mark.parametrize("budget", [10**6, 100], ids=["in memory", "in scratch"])
def test_each_channel_is_read_with_its_own_range(tmp_path, budget):
    values = VALUES.copy()
    values[..., 1] = 7
    path = save(tmp_path / "a.nii.gz", values)
    decoded = decode(Store(), [str(path)], budget_bytes=budget, axes=Axes(2),
                     scratch=str(tmp_path / "scratch"))  # fmt: skip
    whole = decoded.voxels.read(Box.whole(SHAPE))
    np.testing.assert_array_equal(whole, values.transpose(3, 0, 1, 2))
    part = decoded.voxels.read(Box((2, 3, 4), (9, 8, 7)))
    np.testing.assert_array_equal(part, whole[:, 2:9, 3:8, 4:7])
    assert decoded.voxels.inner[1].value_range == (7, 7)
    assert decoded.voxels.inner[0].value_range == (VALUES[..., 0].min(), VALUES[..., 0].max())


def test_a_constant_channel_is_named(tmp_path, bundle):
    values = VALUES.copy()
    values[..., 1] = 7
    save(tmp_path / "images" / "a.nii.gz", values)
    found = said("check", tmp_path / "images", "--model", bundle, "--content")["a"]
    assert found["codes"][0] == "image_constant"
    assert found["findings"][0]["role"] == "channel 2"


def test_other_files_of_four_axes_say_what_fits(tmp_path, bundle):
    save(tmp_path / "images" / "series.nii.gz", np.tile(VALUES, 3))
    save(tmp_path / "images" / "flat.nii.gz", VALUES[:, :, 0, 0])
    save(tmp_path / "images" / "one.nii.gz", VALUES[..., 0])
    found = said("check", tmp_path / "images", "--model", bundle)
    assert found["series"]["codes"] == ["not_3d"]
    for words in ("2 such volumes", "6 channels", "time series", "one-hot", "--remedies onehot"):
        assert words in found["series"]["message"]
    assert "third axis" in found["flat"]["message"]
    assert found["one"]["codes"][0] == "channels_mismatch"
    without = said("check", tmp_path / "images")
    assert without["series"]["codes"] == ["not_3d"]


def test_a_fixed_file_becomes_one_for_each_channel(tmp_path, bundle):
    image = nib.Nifti1Image(VALUES, AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] = 30
    image.set_qform(moved, 2)
    (tmp_path / "images").mkdir()
    nib.save(image, tmp_path / "images" / "a.nii.gz")
    fix = ("--remedies", "sform", "--fix", tmp_path / "fixed", "--model", bundle)
    assert said("check", tmp_path / "images", *fix)["a"]["fixed"] == ["image: sform"]
    manifest = tmp_path / "fixed" / "manifest.jsonl"
    assert said("check", manifest, "--model", bundle)["a"]["verdict"] == "pass"
    for channel in range(2):
        written = nib.load(tmp_path / "fixed" / f"a_000{channel}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), VALUES[..., channel])


def test_a_file_cut_short_in_its_second_channel_is_refused(tmp_path, bundle):
    path = save(tmp_path / "images" / "a.nii", VALUES)
    path.write_bytes(path.read_bytes()[:-100])
    assert said("check", tmp_path / "images", "--model", bundle)["a"]["codes"] == ["file_truncated"]
