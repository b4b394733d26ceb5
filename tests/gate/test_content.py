"""The content check, on a bean in a dim box: where it lies, flipped, and shifted."""

import numpy as np
import pytest

from unet_pipeline.gate.content import content_finding, content_opinion

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
    assert 0.99 < found.certainty <= 1


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
