"""U-Nets whose two sides differ: a reduced encoder with a decoder left intact, or the reverse.

"Can a U-Net's performance be achieved using only half its architecture?" is asked by setting the
width and the number of convolutions of each side apart. A side with one convolution a level and
half the channels is about an eighth of the other.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from unet_pipeline.networks.blocks import Node, PerAxis, Style, convolutions, down, head


class AsymmetricUNet(nn.Module):
    """A U-Net with an encoder and a decoder of their own width and depth.

    Parameters
    ----------
    encoder_features
        Channels of each encoder level, shallow to deep.
    decoder_features
        Channels of each decoder level, shallow to deep; one less than the encoder's. Default: the
        encoder's.
    encoder_convs, decoder_convs
        Convolutions of each level, at least one. The usual U-Net has two on both sides.
    strides
        By how much each level is coarser than the one above, for all axes or for each. Default: 2.
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
        encoder_features: Sequence[int] = (32, 64, 128, 256, 512),
        *,
        decoder_features: Sequence[int] | None = None,
        encoder_convs: int = 2,
        decoder_convs: int = 2,
        strides: Sequence[PerAxis] | None = None,
        **style: Any,
    ) -> None:
        super().__init__()
        depth = len(encoder_features) - 1
        widths = list(decoder_features or encoder_features[:-1])
        steps = list(strides or [2] * depth)
        if depth < 1 or min(*encoder_features, *widths, encoder_convs, decoder_convs) < 1:
            raise ValueError("both sides need at least one level, channel and convolution")
        for name, values in (("decoder_features", widths), ("strides", steps)):
            if len(values) != depth:
                raise ValueError(f"{name} must be {depth} values, one per step, got {len(values)}")
        look = Style(spatial_dims=spatial_dims, **style)
        encoder = [convolutions(look, in_channels, encoder_features[0], encoder_convs)]
        for level in range(depth):
            sizes = encoder_features[level], encoder_features[level + 1]
            encoder.append(down(look, *sizes, steps[level], encoder_convs))
        self.encoder = nn.ModuleList(encoder)
        below = [*widths[1:], encoder_features[-1]]
        self.decoder = nn.ModuleList(
            Node(
                look,
                below=below[level],
                up=widths[level],
                skips=[encoder_features[level]],
                out_channels=widths[level],
                stride=steps[level],
                count=decoder_convs,
            )
            for level in range(depth)
        )
        self.head = head(look, widths[0], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, C, ...)."""
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        for node, skip in zip(reversed(self.decoder), reversed(skips[:-1]), strict=True):
            x = node(x, [skip])
        scores: Tensor = self.head(x)
        return scores
