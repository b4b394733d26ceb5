"""The probe against torch's own interpolation, and on features of which the answer is known."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from unet_pipeline.layer_analysis.probe import Probe, balanced_voxels, features_at, fit_probe


def accuracy(probe, features, targets):
    scores = probe.scores(features.T[None, :, :, None, None], (len(features), 1, 1))
    return float((scores[0, :, :, 0, 0].argmax(0) == targets).double().mean())


@pytest.mark.parametrize("grid", [(3, 4, 5), (1, 2, 2), (6, 8, 10)])
def test_features_at_voxels_are_those_of_interpolation(grid):
    features = torch.randn(7, *grid, generator=torch.Generator().manual_seed(0))
    shape = (6, 8, 10)
    whole = functional.interpolate(features[None], shape, mode="trilinear", align_corners=False)[0]
    voxels = np.argwhere(np.ones(shape))
    found = features_at(features, voxels, shape)
    torch.testing.assert_close(found.T.reshape(7, *shape), whole, rtol=1e-5, atol=1e-5)


def test_scores_may_be_interpolated_instead_of_features():
    made = torch.Generator().manual_seed(0)
    features = torch.randn(1, 5, 3, 3, 4, generator=made)
    probe = Probe(torch.randn(3, 5, generator=made), torch.randn(3, generator=made))
    shape = (6, 6, 8)
    fine = functional.interpolate(features, shape, mode="trilinear", align_corners=False)
    torch.testing.assert_close(
        probe.scores(features, shape), probe.scores(fine, shape), rtol=1e-5, atol=1e-5
    )


def test_voxels_are_drawn_equally_and_by_the_seed():
    labels = np.zeros((6, 6, 6), np.int16)
    labels[:2], labels[3, 3, 3] = 1, 2
    drawn = balanced_voxels(labels, (0, 1, 2), 10, np.random.default_rng([1, 2]))
    assert np.bincount(labels[tuple(drawn.T)]).tolist() == [10, 10, 1]
    assert len(np.unique(drawn, axis=0)) == len(drawn)
    again = balanced_voxels(labels, (0, 1, 2), 10, np.random.default_rng([1, 2]))
    assert np.array_equal(drawn, again)


def test_what_is_linear_in_the_features_is_found():
    made = torch.Generator().manual_seed(0)
    features = 100 + 3 * torch.randn(600, 4, generator=made)  # far from 0, as features may be
    targets = torch.stack([features[:, 0], features[:, 1], 200 - features[:, 0]]).argmax(0)
    probe = fit_probe(features[:300], targets[:300], torch.ones(3) / 3)
    assert accuracy(probe, features[300:], targets[300:]) > 0.97


def test_noise_tells_nothing():
    made = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 4, generator=made)
    targets = torch.randint(0, 2, (4000,), generator=made)
    probe = fit_probe(features[:2000], targets[:2000], torch.ones(2) / 2)
    assert abs(accuracy(probe, features[2000:], targets[2000:]) - 0.5) < 0.05


def test_offsets_follow_how_frequent_labels_are():
    """Two normal distributions at -1 and 1: the border lies at log(odds) / 2 (Bayes)."""
    made = torch.Generator().manual_seed(0)
    features = torch.randn(20_000, 1, generator=made)
    targets = torch.arange(20_000) % 2
    features += (2.0 * targets - 1)[:, None]
    probe = fit_probe(features, targets, torch.tensor([0.9, 0.1]))
    weights = (probe.weights_KC[1] - probe.weights_KC[0])[0]
    border = -float((probe.offsets_K[1] - probe.offsets_K[0]) / weights)
    assert border == pytest.approx(np.log(9) / 2, abs=0.05)


def test_a_label_that_no_voxel_has_is_never_said_and_dead_channels_do_no_harm():
    features = torch.tensor([[-1.0, 5.0], [1.0, 5.0]]).repeat(50, 1)
    targets = torch.tensor([0, 2]).repeat(50)
    probe = fit_probe(features, targets, torch.tensor([0.5, 0.0, 0.5]))
    assert accuracy(probe, features, targets) == 1.0
    assert probe.weights_KC[:, 1].tolist() == [0.0, 0.0, 0.0]
    far = torch.tensor([[-1e3, 1e3], [1e3, -1e3]])
    assert accuracy(probe, far, torch.tensor([0, 2])) == 1.0


def test_fitting_again_gives_the_same_numbers():
    made = torch.Generator().manual_seed(3)
    features, targets = torch.randn(300, 6, generator=made), torch.arange(300) % 3
    first, second = (fit_probe(features, targets, torch.ones(3) / 3) for _ in range(2))
    assert torch.equal(first.weights_KC, second.weights_KC)
    assert torch.equal(first.offsets_K, second.offsets_K)
