r"""Nested U-Nets: UNet++, UNet+ and U-Net^e, of any number of levels, prunable to any depth.

Nodes X^{i,j} stand at level i (0 is the input's resolution), j steps to the right of the encoder::

    X00 --- X01 --- X02 --- X03        a diagonal (i + j = d) is the decoder of the U-Net of
       \   /   \   /   \   /            depth d; its head X^{0,d} needs the nodes with
        X10 --- X11 --- X12            i + j <= d and no others
           \   /   \   /
            X20 --- X21
               \   /
                X30

Every node takes the one below it, upsampled, and by ``skips``: ``dense`` all nodes to its left
(UNet++, Zhou et al. 2018 and 2020), ``short`` the node next to it (UNet+), ``long`` the encoder's
(U-Net^e, U-Nets of all depths on one encoder; both in Zhou et al. 2020, figure 1).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from unet_pipeline.networks.blocks import (
    Node,
    PerAxis,
    Style,
    convolutions,
    down,
    head,
)

Skips = Literal["dense", "short", "long"]


class NestedUNet(nn.Module):
    """A U-Net of nested decoders with a head at every depth.

    Parameters
    ----------
    features
        Channels of each level, shallow to deep; one more than there are depths.
    last_features
        Channels of the deepest head's node, X^{0,L}. Default: those of level 0.
    up_features
        Channels after upsampling into each level but the deepest. Default: those of the level.
    strides
        By how much each level is coarser than the one above, for all axes or for each. Default: 2.
    deep_supervision
        Whether to return the scores of all heads, shallow to deep, or of the deepest alone.
    all_heads
        Whether the shallower heads exist; a network that was pruned to one depth has only one.
    style
        Options of ``blocks.Style``: act, norm, bias, dropout, kernel_size, upsample, attention.

    Raises
    ------
    ValueError
        For sizes that do not fit each other.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        *,
        skips: Skips = "dense",
        last_features: int | None = None,
        up_features: Sequence[int] | None = None,
        strides: Sequence[PerAxis] | None = None,
        deep_supervision: bool = True,
        all_heads: bool = True,
        **style: Any,
    ) -> None:
        super().__init__()
        if deep_supervision and not all_heads:
            raise ValueError("deep_supervision needs all_heads")
        depth = len(features) - 1
        up = list(up_features or features[:-1])
        steps = list(strides or [2] * depth)
        _check_sizes(features, up, steps, skips)
        last = last_features or features[0]
        look = Style(spatial_dims=spatial_dims, **style)
        self.depth, self.skips, self.deep_supervision = depth, skips, deep_supervision
        self.all_heads = all_heads
        self.arguments: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "features": list(features),
            "skips": skips,
            "last_features": last,
            "up_features": up,
            "strides": steps,
            "deep_supervision": deep_supervision,
            "all_heads": all_heads,
            **style,
        }
        self._add_encoder(look, in_channels, features, steps)
        self._add_decoder(look, features, up, steps, last)
        self._add_heads(look, features[0], last, out_channels)

    def _add_encoder(
        self, look: Style, in_channels: int, features: Sequence[int], strides: Sequence[PerAxis]
    ) -> None:
        self.add_module("conv_0_0", convolutions(look, in_channels, features[0]))
        for level, stride in enumerate(strides, start=1):
            block = down(look, features[level - 1], features[level], stride)
            self.add_module(f"conv_{level}_0", block)

    def _add_decoder(
        self,
        look: Style,
        features: Sequence[int],
        up: Sequence[int],
        strides: Sequence[PerAxis],
        last: int,
    ) -> None:
        for level, step in self._decoder():
            node = Node(
                look,
                below=features[level + 1],
                up=up[level],
                skips=[features[level]] * len(self._left_of(step)),
                out_channels=last if step == self.depth else features[level],
                stride=strides[level],
            )
            self.add_module(f"upcat_{level}_{step}", node)

    def _add_heads(self, look: Style, width: int, last: int, out_channels: int) -> None:
        for step in range(1 if self.all_heads else self.depth, self.depth + 1):
            channels = last if step == self.depth else width
            self.add_module(f"final_conv_0_{step}", head(look, channels, out_channels))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return scores (B, C, ...); with deep supervision a tuple of them, shallow to deep."""
        heads = tuple(self.heads(x, only_last=not self.deep_supervision))
        return heads if self.deep_supervision else heads[-1]

    def heads(self, x: Tensor, *, only_last: bool = False) -> Iterator[Tensor]:
        """Yield the scores of each depth as they are ready; nothing is computed before it is asked.

        Parameters
        ----------
        only_last
            Yield the deepest alone: the other heads are then not computed.
        """
        nodes: dict[tuple[int, int], Tensor] = {(0, 0): self.get_submodule("conv_0_0")(x)}
        for depth in range(1, self.depth + 1):
            self.extend(nodes, depth)
            if depth == self.depth or not only_last:
                yield self.score(nodes, depth)

    def extend(self, nodes: dict[tuple[int, int], Tensor], depth: int) -> None:
        """Add the nodes of the diagonal i + j = ``depth`` to those of the shallower ones."""
        below = self.get_submodule(f"conv_{depth}_0")(nodes[depth - 1, 0])
        nodes[depth, 0] = below
        for level in range(depth - 1, -1, -1):
            step = depth - level
            left = [nodes[level, j] for j in self._left_of(step)]
            below = self.get_submodule(f"upcat_{level}_{step}")(below, left)
            nodes[level, step] = below

    def score(self, nodes: Mapping[tuple[int, int], Tensor], depth: int) -> Tensor:
        """Return the scores of the head X^{0,depth}."""
        scores: Tensor = self.get_submodule(f"final_conv_0_{depth}")(nodes[0, depth])
        return scores

    def _left_of(self, step: int) -> Sequence[int]:
        return {"dense": range(step), "short": (step - 1,), "long": (0,)}[self.skips]

    def _decoder(self) -> Iterator[tuple[int, int]]:
        for step in range(1, self.depth + 1):
            for level in range(self.depth + 1 - step):
                yield level, step


def _check_sizes(
    features: Sequence[int], up: Sequence[int], strides: Sequence[PerAxis], skips: str
) -> None:
    if len(features) < 2 or min(features) < 1:
        raise ValueError(f"features must be at least two positive numbers, got {features}")
    depth = len(features) - 1
    for name, values in (("up_features", up), ("strides", strides)):
        if len(values) != depth:
            raise ValueError(f"{name} must be {depth} values, one per depth, got {len(values)}")
    if skips not in ("dense", "short", "long"):
        raise ValueError(f"skips must be dense, short or long, got {skips!r}")


def monai_unetpp(
    spatial_dims: int = 3,
    in_channels: int = 1,
    out_channels: int = 2,
    features: Sequence[int] = (32, 32, 64, 128, 256, 32),
    deep_supervision: bool = False,
    act: Any = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
    norm: Any = ("instance", {"affine": True}),
    bias: bool = True,
    dropout: float = 0.0,
    upsample: str = "deconv",
) -> NestedUNet:
    """Return what MONAI's ``BasicUNetPlusPlus`` of these arguments is: its weights load into it.

    MONAI's class computes all fifteen nodes whatever is asked; this one computes what a head needs.
    Its upsampled features are half as many as the level below has, but as many in level 0.
    """
    if len(features) != 6:
        raise ValueError(f"features must be six numbers, got {len(features)}")
    five = list(features[:5])
    return NestedUNet(
        spatial_dims,
        in_channels,
        out_channels,
        five,
        last_features=features[5],
        up_features=[five[1], *(width // 2 for width in five[2:])],
        deep_supervision=deep_supervision,
        act=act,
        norm=norm,
        bias=bias,
        dropout=dropout,
        upsample="linear" if upsample == "nontrainable" else upsample,
    )
