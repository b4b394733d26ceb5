"""Several networks as one."""

from collections.abc import Sequence

from torch import Tensor, nn

from unet_pipeline.networks.registry import final_scores


class MeanOfNetworks(nn.Module):
    """The mean of the scores of several networks, such as nnU-Net's folds."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, C, ...)."""
        first, *others = self.networks
        total = final_scores(first(x))
        for network in others:
            total = total + final_scores(network(x))
        return total / len(self.networks)
