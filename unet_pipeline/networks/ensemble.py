"""Several networks as one: folds of a model of nnU-Net, or bundles that were trained apart."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from unet_pipeline.networks.bundle import Bundle, digest_of
from unet_pipeline.networks.registry import final_scores


class MeanOfNetworks(nn.Module):
    """The mean of the scores of several networks, before any softmax or sigmoid, as nnU-Net does.

    Attributes
    ----------
    networks
        In the order in which their scores are added: the last bits of a sum of three depend on it.
    """

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


def ensemble_bundle(bundles: Sequence[Bundle]) -> Bundle:
    """Return the bundle of several whose scores are averaged; they fit each other.

    Members are in the order of their digests, and all else comes from them in this order or in
    that of names: in which order they were given, and where they lie, changes nothing.
    """
    members = sorted(bundles, key=lambda one: (one.weights_digest, one.config_digest))
    first, names = members[0], sorted({one.name for one in members})
    configs = [one.config_digest for one in members]
    return replace(
        first,
        name="+".join(names),
        weights_digest=digest_of("".join(one.weights_digest for one in members).encode()),
        config_digest=configs[0] if len({*configs}) == 1 else digest_of("".join(configs).encode()),
        adaptive=None,
        dice_calibration=None,  # of one network
        own_network=any(one.own_network for one in members),
        not_done=tuple(dict.fromkeys(step for one in members for step in one.not_done)),
        references=tuple(dict.fromkeys(text for one in members for text in one.references)),
        members=tuple(members),
    )
