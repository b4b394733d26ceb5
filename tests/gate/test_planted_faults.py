"""Every planted fault is found by its own code, in phantoms and in real pairs; sound pairs pass."""

import gzip
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from planting import FAULTS, Pair, findings_of, judged, read_pair, sound_pairs

from unet_pipeline.gate.findings import verdict_of
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Pair:
    place = tmp_path_factory.mktemp("phantoms")
    (name,) = write_cohort(Store(), str(place), 1)
    image, mask = place / "images" / f"{name}.nii.gz", place / "masks" / f"{name}.nii.gz"
    other = nib.Nifti1Image(np.ones((9, 9, 9), np.int16), np.eye(4)).to_bytes()
    return Pair(image.read_bytes(), mask.read_bytes(), gzip.compress(other))


def test_the_sound_phantom_passes(phantom):
    assert verdict_of(findings_of(phantom, voxels=True)) == "pass"


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_planted_fault_is_found_by_its_code(phantom, fault):
    outcome, codes = judged(fault, phantom)
    assert outcome == "detected", codes


def test_a_mask_is_not_held_against_an_image_without_a_place(phantom):
    """An image whose affine is all 0 is one fault; its mask adds none, and numpy no warning."""
    plain = gzip.decompress(phantom.image)
    broken = plain[:280] + bytes(48) + plain[328:]  # srow_x, srow_y, srow_z
    codes = [f.code for f in findings_of(replace(phantom, image=broken)) if f.severity != "pass"]
    assert codes[0] == "affine_singular"
    assert not {"origin_mismatch", "spacing_mismatch", "direction_mismatch"} & set(codes)


def some_pairs(data: Path) -> list[tuple[str, Path, Path]]:
    """All pairs of small files, but only some of the 200 of one kind."""
    pairs = list(sound_pairs(data))
    few = [p for p in pairs if "hippocampus" not in p[0] and p[1].stat().st_size < 400_000]
    return few + [p for p in pairs if "hippocampus" in p[0]][::40]


@pytest.mark.slow
def test_in_real_pairs(shared_data):
    pairs = some_pairs(shared_data)
    assert len(pairs) > 15
    not_found = []
    for index, (name, image, mask) in enumerate(pairs):
        pair = read_pair(image, mask, pairs[(index + 1) % len(pairs)][1])
        for fault in FAULTS:
            outcome, codes = judged(fault, pair)
            if outcome not in {"detected", "not applicable"}:
                not_found.append((fault.name, name, outcome, codes))
    assert not_found == []


def test_every_sound_real_pair_is_let_through(shared_data):
    refused = [
        name
        for name, image, mask in sound_pairs(shared_data)
        if verdict_of(findings_of(read_pair(image, mask))) != "pass"
    ]
    assert refused == []
