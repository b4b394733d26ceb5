"""Adaptive depth: each window its own depth, and never its neighbours' business."""

import pytest
import torch

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.adaptive import AdaptiveDepth, doubt, mean_depth
from unet_pipeline.networks.depth import AdaptiveRule
from unet_pipeline.networks.nested import NestedUNet
from unet_pipeline.networks.pruning import at_depth


@pytest.fixture(scope="module")
def network() -> NestedUNet:
    torch.manual_seed(0)
    return NestedUNet(3, 1, 3, (4, 8, 16, 32)).eval()


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    """Four windows of different contrast, so that their doubts differ."""
    noise = torch.randn(4, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    ramp = torch.linspace(0, 1, 16)[None, None, :, None, None]
    return noise * torch.tensor([0.1, 1.0, 3.0, 9.0])[:, None, None, None, None] + ramp


def test_doubt_of_scores_that_a_reader_can_check():
    sure = torch.zeros(1, 2, 1, 1, 10)
    sure[:, 1] = 50.0  # all foreground, certain
    assert doubt(sure).item() == pytest.approx(0, abs=1e-6)
    even = torch.zeros(1, 2, 1, 1, 10)  # two classes, 1/2 each: undecided 1, foreground 1/2
    assert doubt(even).item() == pytest.approx(1 / 0.501, rel=1e-4)
    air = torch.zeros(1, 2, 1, 1, 10)
    air[:, 0] = 50.0  # no foreground at all, certain
    assert doubt(air).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("limit", "depth"), [(0.0, 3), (1e6, 1)])
def test_the_ends_are_the_heads_of_the_network(network, windows, limit, depth):
    with torch.inference_mode():
        found = AdaptiveDepth(network, limit)
        assert torch.equal(found(windows), list(network.heads(windows))[depth - 1])
    assert found.windows_at_depth[depth - 1] == 4
    assert mean_depth(found.windows_at_depth) == depth


def test_each_window_ends_at_the_depth_where_it_is_decided(network, windows):
    with torch.inference_mode():
        heads = list(network.heads(windows))
        doubts = torch.stack([doubt(head) for head in heads])
        limit = float(doubts[0].sort().values[1:3].mean())  # two of four are decided at once
        found = AdaptiveDepth(network, limit)(windows)
        for index in range(4):
            decided = [d for d in (0, 1) if doubts[d, index] <= limit]
            wanted = heads[decided[0] if decided else 2][index]
            assert torch.equal(found[index], wanted)


def test_neighbours_in_the_batch_make_no_difference(network, windows):
    with torch.inference_mode():
        limit = float(torch.median(doubt(next(network.heads(windows)))))
        adaptive = AdaptiveDepth(network, limit)
        together = adaptive(windows)
        for order in ([3, 1, 0, 2], [0, 0, 0, 0], [2, 3, 3, 1]):
            assert torch.equal(adaptive(windows[order]), together[order])


def test_a_rule_is_read_as_it_was_written():
    curve = ({"limit": 0.2, "loss": 0.001, "multiply_adds_share": 0.5},)
    rule = AdaptiveRule(0.2, 0.002, curve, {"cases": 3})
    assert AdaptiveRule.parse(rule.as_bytes()) == rule
    for wrong in (b"{}", b"[]", b'{"limit": -1, "promised_loss": 0.1}', b"nothing"):
        with pytest.raises((ValueError, KeyError, TypeError)):
            AdaptiveRule.parse(wrong)


def test_without_a_rule_there_is_no_adaptive_depth(network):
    with pytest.raises(RequestError) as caught:
        at_depth(network, "adaptive")
    assert caught.value.code == "depth_uncalibrated"
    assert isinstance(at_depth(network, "adaptive", AdaptiveRule(0.1, 0.002)), AdaptiveDepth)


def test_the_share_of_multiply_adds_is_that_of_the_limit():
    """Points of the curve stand at the largest limit of their kind; the limit may lie below."""
    curve = tuple(
        {"limit": limit, "multiply_adds_share": share}
        for limit, share in ((0.1, 1.0), (0.2, 0.7), (0.3, 0.4))
    )
    assert AdaptiveRule(0.2, 0.01, curve).multiply_adds_share == 0.7
    assert AdaptiveRule(0.25, 0.01, curve).multiply_adds_share == 0.4
    assert AdaptiveRule(0.2, 0.01).multiply_adds_share == 1.0  # nothing is known
