"""The networks that ``train`` and ``networks`` know by name, each as a ``network_def``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unet_pipeline.choices import NetworkName
from unet_pipeline.networks.registry import MONAI_NETS, OUR_NETS

_NESTED = f"{OUR_NETS}.nested.NestedUNet"
_ASYMMETRIC = f"{OUR_NETS}.asymmetric.AsymmetricUNet"

SUMMARIES: Mapping[str, str] = {
    "unet": "U-Net with residual units (Ronneberger et al. 2015; MONAI's)",
    "plain": "U-Net of two convolutions a level, built of the same blocks as those below",
    "unetpp": "UNet++: nested decoders with dense skips, a head at every depth",
    "unetplus": "UNet+: nested decoders with short skips only",
    "unete": "U-Net^e: U-Nets of all depths on one encoder",
    "asymmetric": "U-Net with half an encoder: one convolution a level and half the channels",
    "half_decoder": "U-Net with half a decoder, the encoder left intact",
}


def network_def(
    name: NetworkName,
    in_channels: int,
    out_channels: int,
    features: Sequence[int],
    *,
    spatial_dims: int = 3,
    **options: Any,
) -> dict[str, Any]:
    """Describe a network of the family.

    Parameters
    ----------
    features
        Channels of each level, shallow to deep; at least two.
    options
        Further arguments of the network's class, such as ``upsample="linear"``.
    """
    sizes = {
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "out_channels": out_channels,
    }
    return {**_MAKERS[name](sizes, list(features)), **options}


def unetpp_def(
    in_channels: int, out_channels: int, features: Sequence[int] = (16, 16, 32, 64, 128, 16)
) -> dict[str, Any]:
    """Describe a 3-D UNet++ with deep supervision: four heads, shallow to deep.

    Parameters
    ----------
    features
        Channels of the five levels, shallow to deep, and of the last block before the deepest
        head. Five values are enough: the last block then has as many as the first level.
    """
    six = [*features, features[0]] if len(features) == 5 else list(features)
    return {
        "_target_": f"{MONAI_NETS}.BasicUNetPlusPlus",
        "spatial_dims": 3,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "features": six,
        "deep_supervision": True,
    }


def _unet(sizes: Mapping[str, int], features: list[int]) -> dict[str, Any]:
    return {
        "_target_": f"{MONAI_NETS}.UNet",
        **sizes,
        "channels": features,
        "strides": [2] * (len(features) - 1),
        "num_res_units": 2,
        "norm": "instance",
    }


def _nested(skips: str) -> Callable[[Mapping[str, int], list[int]], dict[str, Any]]:
    return lambda sizes, features: {
        "_target_": _NESTED,
        **sizes,
        "features": features,
        "skips": skips,
        "deep_supervision": True,
    }


def _two_sided(
    *, half_encoder: bool = False, half_decoder: bool = False
) -> Callable[[Mapping[str, int], list[int]], dict[str, Any]]:
    def halved(widths: list[int]) -> list[int]:
        return [max(1, width // 2) for width in widths]

    return lambda sizes, features: {
        "_target_": _ASYMMETRIC,
        **sizes,
        "encoder_features": halved(features) if half_encoder else features,
        "decoder_features": halved(features[:-1]) if half_decoder else features[:-1],
        "encoder_convs": 1 if half_encoder else 2,
        "decoder_convs": 1 if half_decoder else 2,
    }


_MAKERS: Mapping[str, Callable[[Mapping[str, int], list[int]], dict[str, Any]]] = {
    "unet": _unet,
    "plain": _two_sided(),
    "unetpp": _nested("dense"),
    "unetplus": _nested("short"),
    "unete": _nested("long"),
    "asymmetric": _two_sided(half_encoder=True),
    "half_decoder": _two_sided(half_decoder=True),
}
