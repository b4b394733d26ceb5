"""What networks cost: parameters, multiply-adds, memory, and windows per second on this machine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from unet_pipeline.networks.nested import NestedUNet
from unet_pipeline.networks.pruning import depths_of, prune
from unet_pipeline.networks.registry import network_without_storage


@dataclass(frozen=True)
class Cost:
    """What one evaluation of a network costs.

    Attributes
    ----------
    multiply_adds
        Of all convolutions, per window; batch 1.
    activation_bytes
        Of the results of all convolutions of one window, as float32: about what training keeps.
    windows_per_second
        Median of a few evaluations with batch 1, or None if it was not measured.
    """

    depth: int | None
    parameters: int
    multiply_adds: int
    activation_bytes: int
    windows_per_second: float | None


def costs(
    network: nn.Module, window: Sequence[int], in_channels: int, *, repeats: int = 3
) -> list[Cost]:
    """Return the cost of a network as it is, or of each depth of a nested one, shallow to deep.

    Parameters
    ----------
    window
        Voxels along each axis.
    repeats
        Evaluations to time; 0 for none.
    """
    network = network.eval()
    depths = depths_of(network)
    if depths == 1 or not isinstance(network, NestedUNet):
        return [_cost(network, None, window, in_channels, repeats)]
    return [
        _cost(prune(network, depth), depth, window, in_channels, repeats)
        for depth in range(1, depths + 1)
    ]


def multiply_adds(network: nn.Module, x: Tensor) -> tuple[int, int]:
    """Return the multiply-adds of all convolutions for an input, and the bytes of their results."""
    total = [0, 0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, _ConvNd)  # noqa: S101  only such modules have the hook
        per_value = math.prod(module.kernel_size)
        if isinstance(module, _ConvTransposeNd):
            values, channels = inputs[0].numel(), module.out_channels
        else:
            values, channels = output.numel(), module.in_channels
        total[0] += values * per_value * channels // module.groups
        total[1] += 4 * output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, _ConvNd)]
    try:
        with torch.inference_mode():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return total[0], total[1]


def feature_bytes(network_def: Mapping[str, Any], window: Sequence[int]) -> int:
    """Return the bytes of the results of all convolutions of a window; nothing takes up memory."""
    network, channels = network_without_storage(network_def)
    x = torch.zeros(1, channels, *window, device="meta")
    return multiply_adds(network.eval(), x)[1]


def _cost(
    network: nn.Module,
    depth: int | None,
    window: Sequence[int],
    in_channels: int,
    repeats: int,
) -> Cost:
    x = torch.randn(1, in_channels, *window, generator=torch.Generator().manual_seed(0))
    adds, activations = multiply_adds(network, x)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(depth, parameters, adds, activations, _rate(network, x, repeats))


def _rate(network: nn.Module, x: Tensor, repeats: int) -> float | None:
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats):
            begin = perf_counter()
            network(x)
            seconds.append(perf_counter() - begin)
    return 1 / sorted(seconds)[len(seconds) // 2] if seconds else None


def cost_rows(name: str, found: Sequence[Cost], window: Sequence[int]) -> list[dict[str, Any]]:
    """Return costs as plain JSON types, one row per depth."""
    voxels = math.prod(window)
    return [
        {
            "network": name,
            "depth": cost.depth,
            "parameters": cost.parameters,
            "multiply_adds_per_window": cost.multiply_adds,
            "multiply_adds_per_voxel": round(cost.multiply_adds / voxels, 1),
            "activation_mb_per_window": round(cost.activation_bytes / 1e6, 2),
            "windows_per_second": None
            if cost.windows_per_second is None
            else round(cost.windows_per_second, 2),
        }
        for cost in found
    ]
