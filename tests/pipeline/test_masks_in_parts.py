"""TotalSegmentator's layout: ``ct.nii.gz`` beside ``segmentations/``, a file for each structure."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from command_line import cli, said
from trainings import train

from unet_pipeline.config import TrainSettings
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.records import Part
from unet_pipeline.storage.names import Volume
from unet_pipeline.storage.parts import in_parts, parts_of

PHANTOM = make_phantom(3, shape=(40, 36, 30), spacing_mm=(2.2, 2.2, 3.0))
NAMES = {1: "Left kidney", 2: "liver"}


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, PHANTOM.affine)
    image.set_qform(PHANTOM.affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    random_bundle(folder, features=(4, 8), roi_size=(16, 16, 16))
    file = folder / "configs/metadata.json"
    metadata = json.loads(file.read_text())
    named = {"0": "background", **{str(k): name for k, name in NAMES.items()}}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = named
    file.write_text(json.dumps(metadata))
    return str(folder)


@pytest.fixture
def archive(tmp_path) -> Path:
    """Two cases with their masks in parts, and one structure that no label has."""
    for case in ("s1", "s2"):
        folder = tmp_path / "archive" / case
        save(folder / "ct.nii.gz", PHANTOM.image_XYZ)
        for label, name in ((1, "left_kidney"), (2, "liver")):
            save(folder / "segmentations" / f"{name}.nii.gz", np.uint8(PHANTOM.mask_XYZ == label))
        save(folder / "segmentations" / "rib_left_1.nii.gz", np.uint8(PHANTOM.mask_XYZ == 7))
    return tmp_path / "archive"


def test_parts_are_joined_by_the_names_of_the_labels(archive, bundle, tmp_path):
    joined = tmp_path / "joined" / "s1"
    save(joined / "ct.nii.gz", PHANTOM.image_XYZ)
    save(joined / "mask.nii.gz", PHANTOM.mask_XYZ)
    run = ("--model", bundle, "--cluster", "serial")
    plain = (joined.parent, "--masks", joined.parent, *run, "--output", tmp_path / "plain")
    wanted = said("segment", *plain)["s1/ct"]
    where = (archive, "--masks", archive, *run, "--output", tmp_path / "out")
    found = said("segment", *where)
    assert found["s1/ct"]["dice"] == found["s2/ct"]["dice"] == wanted["dice"]
    assert None not in wanted["dice"].values()
    sidecar = json.loads((tmp_path / "out/s1/ct_dseg.json").read_text())
    assert sidecar["gate"]["fixed"] == ["mask: join"]
    assert [one["role"] for one in sidecar["inputs"]] == ["image0", "mask1", "mask2"]
    assert said("segment", *where)["s1/ct"]["status"] == "skipped"
    save(archive / "s1/segmentations/liver.nii.gz", np.uint8(PHANTOM.mask_XYZ == 9))
    assert said("segment", *where)["s1/ct"]["status"] == "done"
    listed = cli("segment", *where, "--list").stdout
    assert "liver of s1/ct" in listed
    assert "mask of no label" in listed


def test_check_says_so_and_writes_them_as_one(archive, bundle, tmp_path):
    where = (archive, "--masks", archive, "--model", bundle, "--content")
    found = said("check", *where, "--fix", tmp_path / "fixed", "--output", tmp_path / "checked")
    assert {one["verdict"] for one in found.values()} == {"pass"}
    written = nib.load(tmp_path / "fixed/s1/ct_mask.nii.gz")
    np.testing.assert_array_equal(written.dataobj, PHANTOM.mask_XYZ)
    manifest = tmp_path / "fixed/manifest.jsonl"
    allowed = said("check", manifest, "--model", bundle, "--allow", archive)
    assert allowed["s2/ct"]["verdict"] == "pass"


def test_overlaps_and_structures_without_a_file_are_named(archive, bundle, tmp_path):
    both = np.uint8(PHANTOM.mask_XYZ > 0)
    save(archive / "s1/segmentations/liver.nii.gz", both)
    (archive / "s2/segmentations/left_kidney.nii.gz").unlink()
    where = (archive, "--masks", archive, "--model", bundle)
    found = said("check", *where, "--content", "--output", tmp_path / "checked")
    assert found["s1/ct"]["codes"][0] == "mask_parts_overlap"
    assert "both Left kidney and liver" in found["s1/ct"]["message"]
    assert found["s2/ct"]["codes"] == ["mask_in_parts"]
    assert "none is called Left kidney" in found["s2/ct"]["message"]
    out = ("--output", tmp_path / "out", "--cluster", "serial")
    done = said("segment", *where, *out)
    assert {one["status"] for one in done.values()} == {"done"}
    assert done["s1/ct"]["mask_code"] == "mask_parts_overlap"
    assert done["s2/ct"]["mask_code"] == "mask_in_parts"
    save(archive / "s1/segmentations/liver.nii.gz", both * np.uint8(3))
    assert said("check", *where, "--content")["s1/ct"]["codes"][0] == "mask_not_one_hot"


def test_training_takes_them_by_the_names_that_it_is_given(archive, tmp_path):
    settings = TrainSettings(
        images=str(archive), masks=str(archive), output=str(tmp_path / "model"),
        network="unetplus", features=(4, 8), roi_size=(16, 16, 16), spacing=(4.0, 4.0, 4.0),
        steps=1, batch=1, holdout=0.5, threads=1,
        card={"title": "Organs", "data": "Made.", "licence": "none",
              "label_names": ("left kidney", "liver")},
    )  # fmt: skip
    report = train(settings)
    assert report.faults == ()
    assert report.dice.keys() == {1, 2}


def test_names_are_compared_without_case_and_marks():
    masks = [Volume(f"s1/segmentations/{n}", (n,)) for n in ("liver", "LEFT_KIDNEY", "aorta")]
    assert parts_of(masks, NAMES) == (
        Part(1, "Left kidney", "LEFT_KIDNEY"), Part(2, "liver", "liver"),
    )  # fmt: skip
    assert parts_of(masks[:1], NAMES) == ()
    assert in_parts(masks[:1], NAMES)  # 1 is not label 1 there
    assert not in_parts(masks[:1], {0: "background", 1: "liver"})
    assert not in_parts(masks[2:], NAMES)
    assert parts_of(masks, {1: "liver", 2: "spleen"}) == ()
    assert parts_of(masks, {}) == ()
