"""Means over a window that stay exact in float32, for engines that add numbers one by one.

A window of 96^3 has a million voxels. Added one after the other in float32, as OpenVINO does, their
mean is off by a thousandth, and with it every score of a network that normalises by instance or by
group. Here such a mean is taken axis by axis: 96 numbers are added, 96 of their means, and so on.
"""

from typing import Any, cast

import torch
from torch import Tensor

_aten = torch.ops.aten


def with_exact_means(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a graph whose instance and group norms are written out, with means axis by axis."""
    written_out: dict[Any, Any] = {
        _aten.instance_norm.default: _instance_norm,
        _aten.group_norm.default: _group_norm,
    }
    changed: torch.export.ExportedProgram = program.run_decompositions(written_out)
    return changed


def _instance_norm(
    x_BC: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    _running_mean: Tensor | None,
    _running_var: Tensor | None,
    use_input_stats: bool,
    _momentum: float,
    eps: float,
    _cudnn_enabled: bool,
) -> Tensor:
    if not use_input_stats:  # what was measured in training is a constant: there is nothing to add
        return cast(Tensor, NotImplemented)
    return _scaled(_normalised(x_BC, eps), weight, bias)


def _group_norm(
    x_BC: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    _cudnn_enabled: bool = True,
) -> Tensor:
    batch, channels = x_BC.shape[:2]
    x_BGC = x_BC.reshape(batch, num_groups, channels // num_groups, *x_BC.shape[2:])
    return _scaled(_normalised(x_BGC, eps).reshape(x_BC.shape), weight, bias)


def _normalised(x: Tensor, eps: float) -> Tensor:
    """Bring each element of the first two axes to mean 0 and deviation 1."""
    centred = x - _mean(x)
    return centred * torch.rsqrt(_mean(centred * centred) + eps)


def _mean(x: Tensor) -> Tensor:
    """Return the mean over all axes but the first two, which are kept with length 1.

    Each axis is dropped by a reshape: converters would join neighbouring means into one again.
    """
    means = x
    while means.ndim > 2:
        means = means.mean(-1, keepdim=True).reshape(means.shape[:-1])
    return means.reshape(*means.shape, *[1] * (x.ndim - 2))


def _scaled(x_BC: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    per_channel = (1, -1, *[1] * (x_BC.ndim - 2))
    if weight is not None:
        x_BC = x_BC * weight.reshape(per_channel)
    return x_BC if bias is None else x_BC + bias.reshape(per_channel)
