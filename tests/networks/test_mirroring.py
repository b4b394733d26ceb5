import pytest
import torch
from torch import nn

from unet_pipeline.networks.mirroring import Mirrored


class Ramp(nn.Module):
    """Scores that depend on the place: the input plus the index along each axis."""

    def forward(self, x):
        ramp = sum(torch.arange(n).reshape([-1 if a == i else 1 for a in range(3)]) * 10**i
                   for i, n in enumerate(x.shape[2:]))  # fmt: skip
        return x + ramp


@pytest.mark.parametrize(("axes", "evaluations"), [((), 1), ((0,), 2), ((0, 2), 4), ((0, 1, 2), 8)])
def test_the_mean_over_all_flips(axes, evaluations):
    x = torch.rand(1, 1, 3, 5, 7)
    network = Mirrored(Ramp(), axes)
    assert len(network.flips) == evaluations
    # along a mirrored axis the ramp 0..n-1 becomes its mean, (n-1) / 2
    wanted = x.clone()
    for i, n in enumerate(x.shape[2:]):
        along = torch.full((n,), (n - 1) / 2) if i in axes else torch.arange(n, dtype=torch.float)
        wanted = wanted + 10**i * along.reshape([-1 if a == i else 1 for a in range(3)])
    assert torch.allclose(network(x), wanted)


def test_a_symmetric_network_is_not_changed():
    conv = nn.Conv3d(1, 2, 3, padding=1)
    nn.init.constant_(conv.weight, 0.1)
    x = torch.rand(1, 1, 4, 4, 4)
    assert torch.allclose(Mirrored(conv, (0, 1, 2))(x), conv(x), atol=1e-6)
