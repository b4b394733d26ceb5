"""The content check, on a bean in a dim box: where it lies, flipped, and shifted."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from unet_pipeline.gate.content import LEFT_OUT, MAX_VOXELS, content_finding, content_opinion
from unet_pipeline.gate.inspect import look_at_mask
from unet_pipeline.volume.grid import VoxelGrid

SPACING = (1.0, 1.0, 2.0)


def bean(shape=(48, 44, 40)):
    """An image with a bright lopsided shape on noise, and its mask."""
    x, y, z = np.indices(shape)
    mask = ((x - 18) / 11) ** 2 + ((y - 20) / 8) ** 2 + ((z - 17) / 7) ** 2 < 1
    mask |= ((x - 27) / 5) ** 2 + ((y - 25) / 9) ** 2 + ((z - 22) / 4) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 20, shape)
    return (100 * mask + noise).astype(np.float32), mask.astype(np.uint8)


def opinion(image, mask):
    return content_opinion(image, mask, SPACING, axcodes=("L", "P", "S"))


def test_a_mask_on_its_anatomy_is_not_doubted():
    found = opinion(*bean())
    assert not found.doubtful
    assert found.z < 0
    assert content_finding(found) is None


@pytest.mark.parametrize(
    ("axis", "words"),
    [(0, "axis 1 (left-right)"), (1, "axis 2 (front-back)"), (2, "axis 3 (head-feet)")],
)
def test_a_flip_is_found_and_named(axis, words):
    image, mask = bean()
    found = opinion(image, np.flip(mask, axis))
    assert found.doubtful
    assert words in found.alternative
    assert found.shift_mm is None


def test_a_transposition_is_found_and_named():
    image, mask = bean((48, 48, 40))
    found = opinion(image, mask.transpose(1, 0, 2))
    assert found.doubtful
    assert found.alternative == "transposed, axes 1 and 2 exchanged"


@pytest.mark.parametrize("shift", [(3, 0, 0), (0, -5, 0), (0, 0, 4), (4, 3, -2)])
def test_a_shift_is_found_and_measured(shift):
    image, mask = bean()
    found = opinion(image, np.roll(mask, shift, (0, 1, 2)))
    assert found.doubtful
    back = ", ".join(f"{-v:+d}" if v else "0" for v in shift)
    assert found.alternative.startswith(f"shifted by ({back}) voxels")
    assert found.shift_mm == pytest.approx(np.hypot(np.hypot(shift[0], shift[1]), 2 * shift[2]))
    finding = content_finding(found)
    assert (finding.code, finding.severity) == ("content_doubtful", "warn")
    assert str(LEFT_OUT) in finding.found
    assert "certainty" not in finding.found


def test_what_a_finding_says_of_itself_was_measured_on_collections_left_out():
    results = Path(__file__).parents[2] / "benchmarks" / "results" / "content_check.json"
    measured = json.loads(results.read_text())["measured"]
    assert LEFT_OUT.sound == pytest.approx(measured["sound"], abs=0.0005)
    assert LEFT_OUT.moved == pytest.approx(measured["moved"], abs=0.005)


def test_masks_without_an_edge_of_their_own_are_hardly_ever_doubted():
    """Zones beside a bright organ: moved onto its edges they agree better, and wrongly."""
    image, _ = bean()
    places = np.indices(image.shape)
    found = []
    for seed in (1, 2, 3, 4, 8, 11):
        rng = np.random.default_rng(seed)
        centre = rng.uniform(14, 30, 3)
        parts = zip(places, centre, strict=True)
        zone = sum(((place - c) / rng.uniform(5, 9)) ** 2 for place, c in parts)
        found.append(opinion(image, (zone < 1).astype(np.uint8)))
    assert all(one.z > 3 for one in found)  # an alternative wins: that is not enough
    assert sum(one.doubtful for one in found) <= 1


def test_symmetric_anatomy_cannot_be_told_from_its_mirror_image():
    image, mask = bean()
    mask = mask | mask[::-1]
    image = image + image[::-1]
    assert not opinion(image, mask[::-1]).doubtful


def test_noise_is_no_evidence():
    image, mask = bean()
    noise = np.random.default_rng(1).normal(0, 1, image.shape)
    assert not opinion(noise, mask).doubtful
    assert not opinion(noise, mask[::-1]).doubtful


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (bean()[0], np.zeros((48, 44, 40), np.uint8)),
        (np.ones((48, 44, 40)), bean()[1]),
        (bean()[0], np.ones((48, 44, 40), np.uint8)),
        (np.arange(80.0).reshape(5, 4, 4), np.eye(5, 16).astype(int).reshape(5, 4, 4)),
        (bean()[0][:, :, :1], bean()[1][:, :, 17:18]),
    ],
)
def test_where_there_is_nothing_to_compare_there_is_no_opinion(image, mask):
    assert opinion(image, mask) is None


def test_what_is_not_finite_is_left_out():
    image, mask = bean()
    image[30:, 30:, 30:] = np.nan
    assert opinion(image, mask[::-1]).doubtful


def test_a_large_volume_is_thinned_out():
    image, mask = (np.repeat(np.repeat(v, 4, 0), 4, 1) for v in bean())
    found = opinion(image, np.roll(mask, 20, 0))
    assert found.doubtful
    assert "shifted by (-" in found.alternative


def test_an_image_in_scratch_is_read_thinned(tmp_path):
    """A volume over the budget lies there so that it is never whole in memory."""
    shape = (192, 176, 160)
    image, mask = (np.repeat(np.repeat(np.repeat(v, 4, 0), 4, 1), 4, 2) for v in bean())
    sliced = Slices(zarr.create_array(tmp_path / "image", data=image, chunks=(64, 64, 64)))
    assert look_at_mask(mask, sliced, VoxelGrid.of(shape, np.eye(4)), None, content=True) == []
    assert 0 < max(sliced.sizes) <= MAX_VOXELS < image.size / 4


class Slices:
    """An array on disk, and how large the parts were that were read of it."""

    def __init__(self, stored):
        self.stored, self.shape, self.sizes = stored, stored.shape, []

    def __getitem__(self, part):
        values = self.stored[part]
        self.sizes.append(values.size)
        return values


def test_real_pairs(shared_data):
    """Sound pairs are not doubted; flipped from head to feet nearly all are."""
    from planting import image_of, sound_pairs

    named = {name: (image, mask) for name, image, mask in sound_pairs(shared_data)}
    flips = 0
    for number in ("hippocampus_003", "hippocampus_101", "hippocampus_302", "t2_seg-manual"):
        image, mask = (np.asanyarray(image_of(p.read_bytes()).dataobj) for p in named[number])
        mask = np.rint(mask).astype(np.int16)
        assert not opinion(image, mask).doubtful
        flips += opinion(image, mask[:, :, ::-1]).doubtful
    assert flips >= 3
