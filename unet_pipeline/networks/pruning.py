"""Pruning by depth: the part of a nested U-Net that one of its heads needs, and nothing else.

A head of depth d is a function of the nodes X^{i,j} with i + j <= d. The others can go, with their
parameters, and not a bit of that head's scores changes (Zhou et al. 2020, section III.E).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.adaptive import AdaptiveDepth
from unet_pipeline.networks.depth import ADAPTIVE, AdaptiveRule, Depth
from unet_pipeline.networks.ensemble import MeanOfNetworks
from unet_pipeline.networks.nested import NestedUNet

Mode = Literal["fast", "accurate"]


def depths_of(network: nn.Module) -> int:
    """Return the number of depths that a network can be evaluated at: 1 if it is not nested."""
    return network.depth if isinstance(network, NestedUNet) and network.all_heads else 1


def prune(network: NestedUNet, depth: int, mode: Mode = "fast") -> NestedUNet:
    """Return a new network of only the nodes that the head of ``depth`` needs.

    Parameters
    ----------
    depth
        1 for the shallowest.
    mode
        ``fast``: only that head; it returns its scores. ``accurate``: the shallower heads, too,
        whose mean is to be taken (``mean_of_heads``); it returns a tuple.

    Raises
    ------
    RequestError
        ``depth_invalid`` for a depth that the network does not have.
    """
    check_depth(network, depth)
    given = network.arguments
    deepest = depth == network.depth
    arguments = {
        **given,
        "features": given["features"][: depth + 1],
        "up_features": given["up_features"][:depth],
        "strides": given["strides"][:depth],
        "last_features": given["last_features"] if deepest else given["features"][0],
        "all_heads": mode == "accurate",
        "deep_supervision": mode == "accurate",
    }
    pruned = NestedUNet(**arguments)
    kept = network.state_dict()
    pruned.load_state_dict({name: kept[name] for name in pruned.state_dict()})
    return pruned.train(network.training)


def at_depth(
    network: nn.Module, depth: Depth | None, rule: AdaptiveRule | None = None
) -> nn.Module:
    """Return what evaluates a network at a depth: pruned, the mean of its heads, or adaptive.

    Parameters
    ----------
    depth
        None for the network as it is: its deepest head.
    rule
        When adaptive depth stops.

    Raises
    ------
    RequestError
        ``depth_invalid`` for a depth that the network does not have; ``depth_uncalibrated`` for
        adaptive depth without a rule.
    """
    if depth is None:
        return network
    if isinstance(network, MeanOfNetworks):
        return MeanOfNetworks([at_depth(one, depth, rule) for one in network.networks])
    check_depth(network, depth if isinstance(depth, int) else depths_of(network))
    assert isinstance(network, NestedUNet)  # noqa: S101  it has depths
    if isinstance(depth, int):
        return prune(network, depth)
    if depth == "mean":
        return MeanOfHeads(network)
    if rule is None:
        raise RequestError(
            "depth_uncalibrated",
            found="a bundle without a rule for adaptive depth",
            wanted=f"{ADAPTIVE} in the bundle",
            remedy="Run unet-pipeline bundle calibrate on cases with masks",
        )
    return AdaptiveDepth(network, rule.limit)


def check_depth(network: nn.Module, depth: int) -> None:
    """Refuse a depth that a network does not have."""
    depths = depths_of(network)
    if not 1 <= depth <= depths or not isinstance(network, NestedUNet):
        raise RequestError(
            "depth_invalid",
            found=f"depth {depth} of a network with {depths} depth{'s' if depths > 1 else ''}",
            wanted=f"a depth from 1 to {depths}" if depths > 1 else "no depth",
            remedy="Choose another depth, or a bundle of a nested U-Net with deep supervision",
        )


class MeanOfHeads(nn.Module):
    """The mean over heads of the class probabilities (softmax), as in UNet++'s accurate mode."""

    def __init__(self, network: NestedUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities (B, C, ...)."""
        return mean_of_heads(tuple(self.network.heads(x)))


def mean_of_heads(heads: Sequence[Tensor]) -> Tensor:
    """Return the mean of the heads' class probabilities; each (B, C, ...)."""
    total = torch.softmax(heads[0], dim=1)
    for scores in heads[1:]:
        total = total + torch.softmax(scores, dim=1)
    return total / len(heads)
