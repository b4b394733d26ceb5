"""Norms over large windows: the same values written out, exact where numbers are added singly."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from unet_pipeline.inference.engines import Problem, make_engine
from unet_pipeline.inference.engines.means import with_exact_means
from unet_pipeline.inference.engines.protocol import no_warnings

SHAPE = (1, 4, 48, 48, 48)


def network(norm: nn.Module) -> nn.Sequential:
    """Two convolutions with a norm between them; weights from one seed."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), norm, nn.ReLU(), nn.Conv3d(4, 2, 1)).eval()


def norms() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    affine = nn.InstanceNorm3d(4, affine=True)
    nn.init.normal_(affine.weight)
    nn.init.normal_(affine.bias)
    tracked = nn.InstanceNorm3d(4, affine=True, track_running_stats=True)
    tracked(torch.randn(2, 4, 8, 8, 8) + 2)
    return {
        "instance": nn.InstanceNorm3d(4),
        "affine": affine,
        "tracked": tracked,
        "group": nn.GroupNorm(2, 4),
    }


def image() -> torch.Tensor:
    """Half air of one value, half noise above it: sums grow large, deviations are small."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE, generator=generator).clamp(min=0) * 0.1 + 3


@pytest.mark.parametrize("name", norms())
def test_a_norm_written_out_gives_the_same_values(name):
    made = network(norms()[name])
    with no_warnings():  # of PyTorch, of its own parts
        graph = with_exact_means(torch.export.export(made, (image(),)))
    with torch.inference_mode():
        found = graph.module()(image())
        expected = made.double()(image().double())
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-5)


@pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")
@pytest.mark.parametrize("name", norms())
def test_openvino_is_as_exact_as_eager(name):
    made = network(norms()[name])
    engine = make_engine("openvino", Problem(made, SHAPE, torch.device("cpu"), threads=1))
    with torch.inference_mode():
        eager, found = made(image()).numpy(), engine(image()).numpy().copy()
        exact = made.double()(image().double()).numpy()
    assert np.abs(found - exact).max() < 10 * np.abs(eager - exact).max()
