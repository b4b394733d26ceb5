import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics.meandice import compute_dice

from unet_pipeline.evaluation.metrics import dice_per_label, mean_dice


def test_dice_by_hand():
    prediction = np.array([[[0, 1, 1, 2]]])
    reference = np.array([[[1, 1, 0, 0]]])
    # Label 1: one voxel of two and two is common. Label 2: predicted, absent. Label 3: nowhere.
    assert dice_per_label(prediction, reference, [1, 2, 3]) == {1: 0.5, 2: 0.0, 3: None}


@given(seed=st.integers(0, 10_000), labels=st.integers(1, 9))
def test_dice_is_that_of_monai(seed, labels):
    rng = np.random.default_rng(seed)
    prediction, reference = rng.integers(0, labels + 1, (2, 3, 1, 4))
    ours = dice_per_label(prediction, reference, range(1, labels + 1))
    for label, dice in ours.items():
        pair = [torch.from_numpy(a == label)[None, None] for a in (prediction, reference)]
        theirs = compute_dice(*pair, ignore_empty=False).item()
        if dice is None:
            assert not any(mask.any() for mask in pair)
        else:
            assert dice == pytest.approx(theirs, abs=1e-6)


def test_label_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 1, 4\) and reference \(1, 1, 3\)"):
        dice_per_label(np.zeros((1, 1, 4)), np.zeros((1, 1, 3)), [1])


def test_the_mean_leaves_out_what_is_absent():
    assert mean_dice([0.5, None, 1.0]) == 0.75
    assert mean_dice([None]) is None
    assert mean_dice([]) is None
