"""A sheared volume, as of a tilted gantry: seen at right angles, labelled where it lies."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import said
from monai.data import MetaTensor
from monai.transforms import Invertd, Spacingd
from scipy import ndimage

from unet_pipeline.phantoms import make_phantom
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.regrid import resampled
from unet_pipeline.volume.steps import prepare
from unet_pipeline.volume.views import ArrayView, materialised

TILT = np.tan(np.radians(20))  # of slices that are stacked towards the front


def tilted(grid: VoxelGrid) -> VoxelGrid:
    """The grid with its third axis leaning to the second, in the middle where it was."""
    affine = grid.affine.copy()
    affine[:3, 2] += TILT * grid.spacing_mm[2] * affine[:3, 1] / grid.spacing_mm[1]
    middle = (np.array(grid.shape) - 1) / 2
    affine[:3, 3] += grid.voxel_to_world_mm(middle) - (affine @ [*middle, 1])[:3]
    return VoxelGrid.of(grid.shape, affine)


SHEARED = tilted(VoxelGrid.of((17, 19, 15), np.array(
    [[-0.9, 0.12, 0, 12], [0.1, 1.08, 0, -7], [0, 0, 2.2, 3], [0, 0, 0, 1]])))  # fmt: skip
SPACING = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.1, 1.3, 1.7]}
KEPT = {**SPACING, "pixdim": [-1, 1.3, -1]}


def chains(steps):
    values = np.random.default_rng(0).normal(size=(2, *SHEARED.shape)).astype(np.float32)
    view = ArrayView(values)
    prepared = prepare(parse_preprocessing(steps), view, SHEARED)
    scores = np.random.default_rng(1).normal(size=(2, *prepared.model.shape)).astype(np.float32)
    return values, scores, prepared, prepared.forward(view), prepared.backward(ArrayView(scores))


@pytest.mark.parametrize("step", [SPACING, KEPT], ids=["spacing", "kept spacing"])
def test_the_network_sees_what_monai_shows_it_and_scores_come_back_as_in_monai(step):
    values, scores, prepared, forward, backward = chains([step])
    transform = Spacingd("image", step["pixdim"], mode="bilinear")
    affine = torch.from_numpy(SHEARED.affine.copy())
    after = transform({"image": MetaTensor(torch.from_numpy(values), affine=affine)})
    assert prepared.model.shape == tuple(after["image"].shape[1:])
    np.testing.assert_allclose(prepared.model.affine, after["image"].affine, atol=1e-5)
    np.testing.assert_allclose(materialised(forward).values_CXYZ, after["image"], atol=1e-4)
    after["pred"] = MetaTensor(torch.from_numpy(scores), meta=after["image"].meta)
    back = Invertd("pred", transform, orig_keys="image", nearest_interp=False)(after)["pred"]
    np.testing.assert_allclose(materialised(backward).values_CXYZ, back, atol=1e-4)


@pytest.mark.parametrize("steps", [[], [SPACING]], ids=["no Spacingd", "Spacingd"])
def test_a_box_of_a_sheared_volume_has_the_same_bits_as_the_whole(steps):
    *_, forward, backward = chains(steps)
    for chain in (forward, backward):
        whole = chain.read(Box.whole(chain.shape))
        for start, stop in (
            ((3, 2, 1), (9, 8, 7)),
            ((0, 0, 0), (1, 2, 3)),
            ((5, 4, 3), chain.shape),
        ):
            box = Box(start, stop)
            part = whole[(slice(None), *box.within(Box.whole(chain.shape)))]
            np.testing.assert_array_equal(chain.read(box), part)


def test_without_a_spacing_slices_stay_slices_and_the_volume_is_covered():
    _, _, prepared, *_ = chains([])
    grid = prepared.model
    assert not grid.is_sheared
    np.testing.assert_allclose(grid.spacing_mm[:2], SHEARED.spacing_mm[:2], rtol=1e-6)
    upright_mm = SHEARED.spacing_mm[2] * np.cos(np.radians(20))
    np.testing.assert_allclose(grid.spacing_mm[2], upright_mm, rtol=1e-2)
    corners = SHEARED.corners_mm @ np.linalg.inv(grid.affine)[:3, :3].T
    corners += np.linalg.inv(grid.affine)[:3, 3]
    assert (corners > -0.51).all()
    assert (corners < np.array(grid.shape) - 0.49).all()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """One phantom, upright and sampled aslant, with their masks; world places are the same."""
    folder = tmp_path_factory.mktemp("tilted")
    phantom = make_phantom(3)
    upright = VoxelGrid.of(phantom.image_XYZ.shape, phantom.affine)
    aslant = tilted(upright)
    for kind, values, method in (("images", phantom.image_XYZ, "linear"),
                                 ("masks", phantom.mask_XYZ, "nearest")):  # fmt: skip
        (folder / kind).mkdir()
        leaning = resampled(values, upright, aslant, method).astype(values.dtype)
        for name, array, grid in (("upright", values, upright), ("aslant", leaning, aslant)):
            image = nib.Nifti1Image(array, None)
            image.set_sform(grid.affine, 1)
            image.set_qform(grid.affine, 1)  # of a sheared affine: the nearest rotation
            image.header.set_xyzt_units("mm")
            nib.save(image, folder / kind / f"{name}.nii.gz")
    return folder


def centre_mm(path: Path, label: int) -> np.ndarray:
    image = nib.load(path)
    parts, _ = ndimage.label(np.asarray(image.dataobj) == label)
    largest = 1 + np.argmax(np.bincount(parts.ravel())[1:])  # not specks where the body is cut
    voxels = np.argwhere(parts == largest)
    return (image.affine @ [*voxels.mean(axis=0), 1])[:3]


def test_labels_of_a_sheared_volume_lie_right_in_the_world(cohort, tmp_path):
    where = (cohort / "images", "--masks", cohort / "masks", "--model", "phantom")
    checked = said("check", *where, "--content")
    assert checked["aslant"]["verdict"] == "pass"
    assert "axes_sheared" in checked["aslant"]["codes"]
    done = said("segment", *where, "--output", tmp_path, "--cluster", "serial")
    assert {one["status"] for one in done.values()} == {"done"}
    assert min(done["aslant"]["dice"].values()) > 0.9
    for label in (1, 2):
        found = centre_mm(tmp_path / "aslant_dseg.nii.gz", label)
        drawn = centre_mm(cohort / "masks" / "aslant.nii.gz", label)
        assert np.abs(found - drawn).max() < 0.6
    written = nib.load(tmp_path / "aslant_dseg.nii.gz")
    np.testing.assert_array_equal(
        written.affine, nib.load(cohort / "images" / "aslant.nii.gz").affine
    )


def test_what_check_fixes_it_accepts_and_the_shear_is_never_lost(cohort, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    image = nib.load(cohort / "images" / "aslant.nii.gz")
    moved = image.affine.copy()
    moved[1, 3] += 30
    image.set_qform(moved, 1)
    nib.save(image, images / "a.nii.gz")
    assert said("check", images)["a"]["codes"][0] == "forms_conflict"
    lost = said("check", images, "--remedies", "qform")["a"]
    assert (lost["verdict"], lost["codes"][0]) == ("fail", "shear_lost")
    fixed = said("check", images, "--remedies", "sform", "--fix", tmp_path / "fixed")["a"]
    assert fixed["fixed"] == ["image: sform"]
    again = said("check", tmp_path / "fixed" / "a.nii.gz")["a"]
    assert again["verdict"] == "pass"
    written = nib.load(tmp_path / "fixed" / "a.nii.gz")
    assert int(written.header["qform_code"]) == 0
    np.testing.assert_allclose(written.affine, image.header.get_sform(), atol=1e-5)


def test_axes_further_off_than_any_gantry_are_refused(cohort, tmp_path):
    image = nib.load(cohort / "images" / "upright.nii.gz")
    affine = image.affine.copy()
    affine[:3, 2] += 3 * affine[:3, 1]
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), tmp_path / "a.nii.gz")
    assert said("check", tmp_path)["a"]["codes"][0] == "axes_sheared"
