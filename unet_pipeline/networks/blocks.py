"""What our U-Nets are built of: MONAI's blocks, put together per level.

Module names (``conv_0``, ``convs``, ``upsample`` ...) are those of MONAI's ``BasicUNet`` family, so
that weights of one load into the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.blocks.upsample import UpSample
from monai.networks.layers.factories import Conv, Pool
from monai.networks.nets.attentionunet import AttentionBlock
from torch import Tensor, nn

Upsampling = Literal["deconv", "linear", "pixelshuffle"]
PerAxis = int | Sequence[int]
_MONAI_MODE = {"deconv": "deconv", "linear": "nontrainable", "pixelshuffle": "pixelshuffle"}


@dataclass(frozen=True)
class Style:
    """What all blocks of a network have in common.

    Attributes
    ----------
    act, norm
        MONAI names, or pairs of name and arguments.
    kernel_size
        Of all convolutions but the last, in voxels, for all axes or for each.
    upsample
        ``deconv``; ``linear``: a 1x1 convolution, then bi- or trilinear; ``pixelshuffle``.
    attention
        Whether skips pass an attention gate (Oktay et al. 2018).
    """

    spatial_dims: int = 3
    act: Any = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})
    norm: Any = ("instance", {"affine": True})
    bias: bool = True
    dropout: float = 0.0
    kernel_size: PerAxis = 3
    upsample: Upsampling = "deconv"
    attention: bool = False

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {self.spatial_dims}")
        if self.upsample not in _MONAI_MODE:
            wanted = ", ".join(_MONAI_MODE)
            raise ValueError(f"upsample must be one of {wanted}, got {self.upsample!r}")
        if any(size % 2 == 0 for size in per_axis(self.kernel_size, self.spatial_dims)):
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")


def per_axis(value: PerAxis, spatial_dims: int) -> tuple[int, ...]:
    """Return one number per axis."""
    values = (value,) * spatial_dims if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != spatial_dims:
        raise ValueError(f"{value} must be one number or {spatial_dims}, one per axis")
    return values


def convolutions(
    style: Style, in_channels: int, out_channels: int, count: int = 2
) -> nn.Sequential:
    """Return ``count`` convolutions, each with norm, dropout and activation."""
    parts = nn.Sequential()
    for index in range(count):
        block = Convolution(
            style.spatial_dims,
            in_channels if index == 0 else out_channels,
            out_channels,
            kernel_size=per_axis(style.kernel_size, style.spatial_dims),
            act=style.act,
            norm=style.norm,
            dropout=style.dropout or None,
            bias=style.bias,
        )
        parts.add_module(f"conv_{index}", block)
    return parts


def down(
    style: Style, in_channels: int, out_channels: int, stride: PerAxis, count: int = 2
) -> nn.Sequential:
    """Return max pooling by ``stride``, then convolutions."""
    parts = nn.Sequential()
    size = per_axis(stride, style.spatial_dims)
    parts.add_module("max_pooling", Pool["MAX", style.spatial_dims](kernel_size=size))
    parts.add_module("convs", convolutions(style, in_channels, out_channels, count))
    return parts


def head(style: Style, in_channels: int, out_channels: int) -> nn.Module:
    """Return the 1x1 convolution that gives scores."""
    made: nn.Module = Conv["conv", style.spatial_dims](in_channels, out_channels, kernel_size=1)
    return made


class Node(nn.Module):
    """A decoder node: upsample, join with the skips (gated, if so wished), convolve.

    Parameters
    ----------
    below, up
        Channels of the node below, before and after upsampling.
    skips
        Channels of each skip.
    stride
        By which the node below is coarser.
    """

    def __init__(
        self,
        style: Style,
        *,
        below: int,
        up: int,
        skips: Sequence[int],
        out_channels: int,
        stride: PerAxis,
        count: int = 2,
    ) -> None:
        super().__init__()
        factor = per_axis(stride, style.spatial_dims)
        if style.upsample == "pixelshuffle" and len(set(factor)) > 1:
            raise ValueError(f"upsample pixelshuffle needs one stride for all axes, got {factor}")
        self.upsample = UpSample(
            style.spatial_dims,
            below,
            up,
            factor[0] if style.upsample == "pixelshuffle" else factor,
            mode=_MONAI_MODE[style.upsample],
            interp_mode="linear",
            align_corners=True,
        )
        self.gates = nn.ModuleList(
            AttentionBlock(style.spatial_dims, f_int=max(1, skip // 2), f_g=up, f_l=skip)
            for skip in (skips if style.attention else ())
        )
        self.convs = convolutions(style, sum(skips) + up, out_channels, count)

    def forward(self, below: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the node's features, at the resolution of ``skips``."""
        raised = self.upsample(below)
        if self.gates:
            skips = [gate(raised, skip) for gate, skip in zip(self.gates, skips, strict=True)]
        joined: Tensor = self.convs(torch.cat([*skips, raised], dim=1))
        return joined
