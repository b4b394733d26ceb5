"""The networks that ``train`` and ``networks`` know by name, each as a ``network_def``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from unet_pipeline.networks.registry import MONAI_NETS, OUR_NETS

NetworkName = Literal["unet", "unetpp", "unetplus", "unete", "asymmetric"]
_NESTED = f"{OUR_NETS}.nested.NestedUNet"
_ASYMMETRIC = f"{OUR_NETS}.asymmetric.AsymmetricUNet"

SUMMARIES: Mapping[str, str] = {
    "unet": "U-Net with residual units (Ronneberger et al. 2015; MONAI's)",
    "unetpp": "UNet++: nested decoders with dense skips, a head at every depth",
    "unetplus": "UNet+: nested decoders with short skips only",
    "unete": "U-Net^e: U-Nets of all depths on one encoder",
    "asymmetric": "U-Net with half an encoder: one convolution a level and half the channels",
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


def _asymmetric(sizes: Mapping[str, int], features: list[int]) -> dict[str, Any]:
    return {
        "_target_": _ASYMMETRIC,
        **sizes,
        "encoder_features": [max(1, width // 2) for width in features],
        "decoder_features": features[:-1],
        "encoder_convs": 1,
        "decoder_convs": 2,
    }


_MAKERS: Mapping[str, Callable[[Mapping[str, int], list[int]], dict[str, Any]]] = {
    "unet": _unet,
    "unetpp": _nested("dense"),
    "unetplus": _nested("short"),
    "unete": _nested("long"),
    "asymmetric": _asymmetric,
}
