"""A mask of four axes, a volume for each label, is a label map on request."""

import json

import nibabel as nib
import numpy as np
import pytest
from command_line import said

from unet_pipeline.errors import CaseError
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.volume.labels import of_one_hot


@pytest.mark.parametrize("background", [True, False])
def test_each_volume_is_a_label(background):
    labels = np.random.default_rng(0).integers(0, 3, (5, 6, 7))
    numbers = (0, 1, 2) if background else (1, 2)
    volumes = [np.float32(labels == number) * np.float32(0.9999999) for number in numbers]
    np.testing.assert_array_equal(of_one_hot(volumes), labels)


@pytest.mark.parametrize("values", [(0.5, 0.5), (1, 1), (np.nan, 1), (2, 0)])
def test_overlaps_and_other_values_are_refused(values):
    with pytest.raises(CaseError) as caught:
        of_one_hot([np.full((2, 2, 2), value, np.float32) for value in values])
    assert caught.value.code == "mask_not_one_hot"


def test_a_one_hot_mask_goes_through_check_segment_and_fix(tmp_path):
    phantom = make_phantom(3, shape=(40, 36, 30), spacing_mm=(2.2, 2.2, 3.0))
    stacked = np.stack([phantom.mask_XYZ == label for label in (0, 1, 2)], axis=3)
    for kind, values in (("images", phantom.image_XYZ), ("masks", phantom.mask_XYZ),
                         ("stacks", stacked.astype(np.uint8))):  # fmt: skip
        (tmp_path / kind).mkdir()
        nib.save(nib.Nifti1Image(values, phantom.affine), tmp_path / kind / "a.nii.gz")
    where = (tmp_path / "images", "--masks", tmp_path / "stacks")
    refused = said("check", *where)["a"]
    assert refused["codes"][0] == "not_3d"
    assert "--remedies onehot" in refused["message"]
    asked = ("--remedies", "onehot")
    fixed = said("check", *where, *asked, "--content", "--fix", tmp_path / "fixed")["a"]
    assert (fixed["verdict"], fixed["fixed"]) == ("pass", ["mask: onehot"])
    written = nib.load(tmp_path / "fixed" / "a_mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), phantom.mask_XYZ)
    run = ("--model", "phantom", "--cluster", "serial")
    plain = ("segment", tmp_path / "images", "--masks", tmp_path / "masks")
    wanted = said(*plain, *run, "--output", tmp_path / "plain")["a"]
    found = said("segment", *where, *asked, *run, "--output", tmp_path / "out")["a"]
    assert found["dice"] == wanted["dice"]
    sidecar = json.loads((tmp_path / "out" / "a_dseg.json").read_text())
    assert sidecar["gate"]["fixed"] == ["mask: onehot"]
