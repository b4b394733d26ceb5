"""The paragraph of methods says what the run did, and numbers its references."""

import re
from dataclasses import replace

import pytest

from unet_pipeline.networks.bundle import MOST_OF_A_REFERENCE, MOST_REFERENCES, references_in
from unet_pipeline.report.methods import MethodsFacts, methods_of

FACTS = MethodsFacts(
    versions={"unet_pipeline": "0.1.0", "torch": "2.13.0", "monai": "1.6.1", "nibabel": "5.3.2",
              "dask": "2026.7.0"},
    model="hippocampus", weights="sha256:0123456789ab", network="NestedUNet",
    roi_size=(32, 48, 32), overlap=0.5, blend="gaussian", engine="eager",
    transforms=["LoadImaged", "Orientationd", "NormalizeIntensityd"],
    counts={"done": 290, "skipped": 5, "quarantined": 2}, codes={"mask_off_grid": 2},
    labels=["anterior", "posterior"],
)  # fmt: skip
ALL = replace(
    FACTS, networks=5, mirror=(0, 2), depth="adaptive", steps=("largest:1",),
    references=("Antonelli M, et al. The Medical Segmentation Decathlon. 2022.",), uses_dask=True,
    scheduler="Prefect 3.8.0", is_ome=True, has_dice=True, is_reviewed=True, engine="openvino",
)  # fmt: skip


def test_by_eye():
    assert methods_of(FACTS).paragraph == (
        "Volumes were segmented with unet_pipeline 0.1.0 by the model hippocampus (weights "
        "sha256:0123456789ab), a UNet++ [1]. Labels: anterior, posterior. 295 volumes were "
        "segmented; 2 failed the checks of files and geometry, or while they were processed, and "
        "were left out (mask_off_grid 2). Headers were read with nibabel 5.3.2 [2]; preprocessing "
        "followed the model's configuration (Orientationd, NormalizeIntensityd), as MONAI 1.6.1 "
        "[3] does. The network was evaluated with PyTorch 2.13.0 [4] in windows of 32 x 48 x 32 "
        "voxels that overlap by 50%, whose scores were averaged with Gaussian weights; scores were "
        "brought back to the grid of each file, where the labels were decided."
    )


@pytest.mark.parametrize("facts", [FACTS, ALL, replace(ALL, network="ResidualEncoderUNet")])
def test_every_number_has_its_reference_and_the_other_way(facts):
    made = methods_of(facts)
    numbers = [int(one) for one in re.findall(r"\[(\d+)\]", made.paragraph)]
    assert list(dict.fromkeys(numbers)) == list(range(1, len(made.references) + 1))
    assert made.text.count(made.references[-1]) == 1
    assert "  " not in made.paragraph


def test_what_was_done_is_said_and_nothing_else():
    words = {
        "5 networks whose scores were averaged": "Antonelli", "at depth adaptive": "UNet++",
        "mirrored copies (axes x, z)": "PyTorch", "postprocessed": "cc3d", "as OME-Zarr": "NGFF",
        "Dask 2026.7.0": "Rocklin", "scheduled by Prefect 3.8.0": "prefect.io",
        "Dice score": "Dice LR", "listed for review": "Iglewicz", "engine openvino": "PyTorch",
    }  # fmt: skip
    said, plain = methods_of(ALL), methods_of(FACTS)
    for sentence, reference in words.items():
        assert sentence in said.paragraph
        assert sentence not in plain.paragraph
        assert any(reference in one for one in said.references)
    whole = methods_of(replace(FACTS, roi_size=(), counts={"done": 1}))
    assert "1 volume was segmented." in whole.paragraph
    assert "on each whole volume" in whole.paragraph
    nnunet = methods_of(replace(FACTS, network="PlainConvUNet"))
    assert "a U-Net of nnU-Net [1]" in nnunet.paragraph
    assert "and nnU-Net [1] do." in nnunet.paragraph


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"references": ["A. B. 2020.", "", 7, " C. "]}, ("A. B. 2020.", "C.")),
        ({"reference": "https://nnunet.example"}, ("https://nnunet.example",)),
        ({"references": [], "citation": "D."}, ("D.",)),
        ({"references": {"a": 1}}, ()),
        ({}, ()),
    ],
)
def test_what_a_bundle_asks_to_be_cited(metadata, found):
    assert references_in(metadata) == found


def test_references_of_a_bundle_are_bounded_and_showable():
    found = references_in({"references": ["\x1b[31m" + "x" * 5000] * 500})
    assert len(found) == MOST_REFERENCES
    assert {len(one) for one in found} == {MOST_OF_A_REFERENCE}
    assert "\x1b" not in found[0]
