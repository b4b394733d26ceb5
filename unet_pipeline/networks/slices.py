"""2-D networks on volumes: each window is one slice (MONAI's ``SliceInferer``)."""

from torch import Tensor, nn


class SliceNetwork(nn.Module):
    """A 2-D network whose windows have one voxel along an axis of the volume.

    Parameters
    ----------
    axis
        Spatial axis of the model grid that slices follow each other along, from 0.
    """

    def __init__(self, network: nn.Module, axis: int) -> None:
        super().__init__()
        self.network, self.axis = network, axis

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return scores (B, C, X, Y, Z) of windows of one slice."""
        output = self.network(x.squeeze(self.axis + 2))
        if isinstance(output, Tensor):
            return output.unsqueeze(self.axis + 2)
        return tuple(scores.unsqueeze(self.axis + 2) for scores in output)
