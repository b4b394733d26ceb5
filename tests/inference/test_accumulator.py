"""Windows are added alike by the compiled loop and by what any device can do."""

import numpy as np
import pytest
import torch

from unet_pipeline.errors import CaseError
from unet_pipeline.inference import accumulator
from unet_pipeline.inference.accumulator import ScoreAccumulator, add_in_groups
from unet_pipeline.inference.importance import importance_map
from unet_pipeline.tiling.box import Box

ROI = (8, 6, 10)
READ_BOX = Box((-1, 2, 0), (12, 12, 10))
WINDOW = Box.at((3, 4, 0), ROI)


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 9, (5, *ROI)).astype(np.float32))


@pytest.fixture
def importance() -> torch.Tensor:
    return torch.from_numpy(importance_map(ROI, "gaussian"))


@pytest.mark.parametrize("group_voxels", [1, 2 * 8 * 6 * 10, 10**9])
def test_both_ways_of_adding_give_the_same_bits(scores, importance, group_voxels, monkeypatch):
    monkeypatch.setattr(accumulator, "GROUP_VOXELS", group_voxels)
    sums = ScoreAccumulator(5, READ_BOX, importance, threads=2)
    expected = torch.zeros((5, *READ_BOX.shape), dtype=torch.int64)
    for _ in range(2):
        sums.add(scores, WINDOW)
        add_in_groups(expected[(slice(None), *WINDOW.within(READ_BOX))], scores, importance)
    assert torch.equal(sums.sums(), expected)
    assert expected.count_nonzero() == scores.numel()


def test_a_score_that_is_no_number_ends_the_call(scores, importance):
    scores[4, 7, 5, 9] = np.nan
    with pytest.raises(CaseError) as caught:
        ScoreAccumulator(5, READ_BOX, importance, threads=2).add(scores, WINDOW)
    assert caught.value.code == "scores_not_finite"
