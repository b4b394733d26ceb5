"""Networks so small that one can say beforehand what an inspection must find."""

import numpy as np
import torch
from torch import nn

from unet_pipeline.layer_analysis.cases import CaseBlock, cut_block
from unet_pipeline.layer_analysis.inspected_network import InspectedNetwork
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.views import ArrayView

WINDOW = (8, 8, 8)


def convolution(weights) -> nn.Conv3d:
    """A 1x1x1 convolution with these weights, (out, in), and no offsets."""
    made = nn.Conv3d(len(weights[0]), len(weights), 1, bias=False)
    made.weight.data = torch.tensor(weights, dtype=torch.float32).view(*made.weight.shape)
    return made


class Known(nn.Module):
    """Scores from one branch; another branch is computed and used by nobody.

    ``answer`` holds the labels as they are, ``coarse`` the same at half the resolution, ``noise``
    nothing of them, and ``head`` decides between background and label by the sign of ``answer``.
    """

    def __init__(self):
        super().__init__()
        self.answer = convolution([[1.0], [-1.0]])
        self.down = nn.Conv3d(1, 1, 2, stride=2, bias=False)
        self.down.weight.data.fill_(1 / 8)
        self.noise = convolution([[1.0]])
        self.unused = convolution([[3.0]])
        self.head = convolution([[-1.0, 0.0], [1.0, 0.0]])

    def forward(self, x):
        features = self.answer(x)
        self.down(x)
        generator = torch.Generator().manual_seed(int(x.abs().sum() * 1000) % 2**31)
        self.noise(torch.randn(x.shape, generator=generator))
        self.unused(x)
        return self.head(features)


def known() -> InspectedNetwork:
    return InspectedNetwork(Known().eval(), 1, 2, WINDOW)


def labelled_block(name="a", seed=0, shape=(12, 8, 8), most_windows=8) -> CaseBlock:
    """Random blobs of label 1 whose voxels the network sees as 1, and all others as -1."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int16)
    for corner in rng.integers(0, np.array(shape) - 3, size=(3, 3)):
        x, y, z = corner
        labels[x : x + 4, y : y + 4, z : z + 4] = 1
    model = ArrayView(np.where(labels > 0, 1.0, -1.0)[None])
    grid = VoxelGrid.of(shape, np.eye(4))
    return cut_block(name, model, grid, labels, roi_size=WINDOW, overlap=0.5,
                     most_windows=most_windows)  # fmt: skip


def hooks_on(network) -> int:
    """How many hooks there are on a network's modules."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
