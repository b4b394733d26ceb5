"""A network under inspection: watched, stopped, replaced, and left as it was."""

import pytest
import torch
from small_networks import hooks_on, known
from torch import nn

from unet_pipeline.layer_analysis.inspected_network import InspectedNetwork


def test_features_are_what_the_layer_gives_and_nothing_after_it_runs():
    inspected, x = known(), torch.randn(1, 1, 8, 8, 8)
    ran = []
    with inspected.hooked({"head": lambda *_: ran.append("head")}):
        features = inspected.features(x, "answer")
    assert torch.equal(features, torch.cat([x, -x], dim=1))
    assert ran == []
    assert hooks_on(inspected.network) == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_hooks_are_gone_after_an_error_in_a_hook(error):
    inspected = known()

    def fail(*_):
        raise error

    hooks = {"answer": lambda *_: None, "head": fail}
    with inspected.hooked(hooks):
        assert hooks_on(inspected.network) == 2
    with pytest.raises(error), inspected.hooked(hooks):
        inspected.scores(torch.zeros(1, 1, 8, 8, 8))
    assert hooks_on(inspected.network) == 0


def test_hooks_are_gone_after_an_error_in_the_network():
    inspected = known()
    means = {"answer": torch.zeros(2)}
    with pytest.raises(RuntimeError), inspected.replaced(means):
        inspected.scores(torch.zeros(1, 5, 8, 8, 8))  # five channels, of which it takes one
    with pytest.raises(RuntimeError):
        inspected.features(torch.zeros(1, 5, 8, 8, 8), "head")
    assert hooks_on(inspected.network) == 0


def test_hooks_are_gone_if_a_later_layer_does_not_exist():
    inspected = known()
    with (
        pytest.raises(AttributeError),
        inspected.hooked({"answer": lambda *_: None, "nowhere": lambda *_: None}),
    ):
        pass
    assert hooks_on(inspected.network) == 0


def test_replaced_channels_are_constant_and_the_others_as_before():
    inspected, x = known(), torch.randn(1, 1, 8, 8, 8)
    with inspected.replaced({"answer": torch.tensor([0.25, 0.5])}, {"answer": [1]}):
        features = inspected.features(x, "head")
    assert torch.equal(features, torch.cat([-x, x], dim=1))  # the head looks at channel 0 only
    with inspected.replaced({"answer": torch.tensor([0.25, 0.5])}):
        scores = inspected.scores(x)
    assert torch.equal(scores[0, 1], torch.full((8, 8, 8), 0.25))
    assert not torch.equal(inspected.scores(x), scores)


def test_a_2d_network_gets_the_axis_of_its_slices_back():
    network = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.Conv2d(4, 2, 1)).eval()
    inspected = InspectedNetwork(network, 1, 2, (8, 1, 6), slice_axis=1)
    x = torch.randn(1, 1, 8, 1, 6)
    assert inspected.in_plane == (8, 6)
    assert inspected.features(x, "0").shape == (1, 4, 4, 1, 3)
    assert torch.equal(inspected.features(x, "0")[:, :, :, 0], network[0](x[:, :, :, 0]))
