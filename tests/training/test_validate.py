import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unet_pipeline.training.crops import Sample
from unet_pipeline.training.validate import mean_per_label, split_cases, validate

NAMES = [f"case-{index:03d}" for index in range(10)]


@given(
    names=st.lists(st.text(min_size=1, max_size=4), unique=True, min_size=1, max_size=30),
    holdout=st.floats(0, 0.99),
    seed=st.integers(0, 9),
)
def test_a_split_partitions_the_cases(names, holdout, seed):
    split = split_cases(names, holdout, seed)
    assert sorted(split.training + split.held_out) == sorted(names)
    assert split.training
    assert abs(len(split.held_out) - holdout * len(names)) <= 1


def test_a_split_depends_on_names_and_seed_alone():
    split = split_cases(NAMES, 0.3, 0)
    assert split == split_cases(reversed(NAMES), 0.3, 0)
    assert split != split_cases(NAMES, 0.3, 1)
    assert len(split.held_out) == 3


class Threshold(nn.Module):
    """Two heads; the deepest says 1 where the image is above 0.5, the other says 1 everywhere."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        deep = torch.cat([0.5 - images, images - 0.5], dim=1) + self.bias
        return [torch.ones_like(deep) * torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1), deep]


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 11, 9)], ids=["whole windows", "padded"])
def test_the_deepest_head_is_scored_on_the_whole_case(shape):
    rng = np.random.default_rng(0)
    labels_XYZ = rng.integers(0, 2, shape).astype(np.uint8)
    wrong = labels_XYZ.copy()
    wrong[labels_XYZ == 1] = rng.integers(0, 2, int(labels_XYZ.sum()))
    samples = [
        Sample(labels_XYZ[None].astype(np.float32), labels_XYZ),
        Sample(wrong[None].astype(np.float32), labels_XYZ),
    ]
    scores = validate(Threshold(), samples, roi_size=(8, 8, 8), overlap=0.5, labels=[1, 2])
    kept, all_ones = int(wrong.sum()), int(labels_XYZ.sum())
    assert scores[0] == {1: 1.0, 2: None}
    assert scores[1] == {1: pytest.approx(2 * kept / (kept + all_ones)), 2: None}
    assert mean_per_label(scores) == {1: pytest.approx((1 + scores[1][1]) / 2), 2: None}
