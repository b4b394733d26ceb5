"""Scores of label maps: cubes a reader can check by eye, and MONAI on whole volumes."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.evaluation.scores import LabelScore, score_labels

SPACING = (1.0, 1.0, 2.0)


def cube(x: int, y: int = 3, z: int = 3, label: int = 1) -> np.ndarray:
    """A cube of 3 x 3 x 3 voxels; its surface is 26 of them, all but the middle one."""
    volume = np.zeros((10, 10, 10), dtype=np.uint8)
    volume[x : x + 3, y : y + 3, z : z + 3] = label
    return volume


def score(prediction, reference, tolerance_mm=1.0) -> LabelScore:
    return score_labels(prediction, reference, [1], SPACING, tolerance_mm)[1]


def test_equal_cubes():
    assert score(cube(3), cube(3), 0.1) == LabelScore(1.0, 1.0, 1.0, 0.0)


def test_cubes_a_voxel_of_1_mm_apart():
    """Of each cube two layers lie in the other; of its 26 surface voxels 8 + 8 on its surface."""
    near = score(cube(3), cube(4), tolerance_mm=0.5)
    assert near.dice == pytest.approx(2 * 18 / 54)
    assert near.iou == pytest.approx(18 / 36)
    assert near.nsd == pytest.approx(16 / 26)
    assert near.hd95_mm == 1.0
    assert score(cube(3), cube(4), tolerance_mm=1.0).nsd == 1.0


def test_spacing_counts():
    """One voxel along the third axis is 2 mm.

    Within 1 mm there is one more of each surface: the middle of the face inside the other cube.
    """
    shifted = score(cube(3), cube(3, z=4), tolerance_mm=1.0)
    assert shifted.nsd == pytest.approx(17 / 26)
    assert shifted.hd95_mm == 2.0
    assert score(cube(3), cube(3, z=4), tolerance_mm=2.0).nsd == 1.0


def test_cubes_that_do_not_meet():
    """From 0-2 to 7-9: the near faces are 5 voxels apart, the far ones 7."""
    assert score(cube(0), cube(7)) == LabelScore(0.0, 0.0, 0.0, 7.0)


def test_absent_labels():
    nothing = np.zeros_like(cube(3))
    assert score(nothing, nothing) == LabelScore(None, None, None, None)
    assert score(nothing, cube(3)) == LabelScore(0.0, 0.0, 0.0, None)
    assert score(cube(3), nothing) == LabelScore(0.0, 0.0, 0.0, None)
    assert score_labels(nothing, nothing, [], SPACING, 1.0) == {}


def test_each_label_has_its_own_scores():
    prediction = np.maximum(cube(0), cube(6, label=3))
    reference = np.maximum(cube(0), cube(7, label=3))
    found = score_labels(prediction, reference, [1, 2, 3], SPACING, 0.5)
    assert found[1] == LabelScore(1.0, 1.0, 1.0, 0.0)
    assert found[2] == LabelScore()
    assert found[3].dice == pytest.approx(2 * 18 / 54)


def test_shapes_must_be_one():
    with pytest.raises(ValueError, match="must have one shape"):
        score(cube(3), cube(3)[1:])


def blobs(seed: int, fill: float) -> np.ndarray:
    return (np.random.default_rng(seed).random((7, 6, 5)) < fill).astype(np.uint8)


@given(seed=st.integers(0, 10_000), fill=st.floats(0.05, 0.95), tolerance=st.floats(0.0, 3.0))
@settings(max_examples=25)
def test_the_box_around_a_label_tells_what_monai_says_of_the_volume(seed, fill, tolerance):
    prediction, reference = blobs(seed, fill), blobs(seed + 1, fill)
    found = score(prediction, reference, tolerance)
    assert found.dice == dice_per_label(prediction, reference, [1])[1]
    if not prediction.any() or not reference.any():
        return
    pair = [torch.from_numpy(volume[None, None]) for volume in (prediction, reference)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nsd = compute_surface_dice(*pair, [tolerance], include_background=True, spacing=SPACING)
        hd95 = compute_hausdorff_distance(
            *pair, percentile=95, include_background=True, spacing=SPACING
        )
    assert found.nsd == float(nsd)
    assert found.hd95_mm == float(hd95)
