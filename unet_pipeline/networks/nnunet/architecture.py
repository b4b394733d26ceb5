"""The networks that nnU-Net's plans name, built by ``dynamic-network-architectures``.

Only the classes below are built, and only with the layers below: nothing is imported by a name of a
plan.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from unet_pipeline.errors import RequestError

MODULE = "dynamic_network_architectures.architectures"
_LAYERS: Mapping[str, type[nn.Module]] = {
    layer.__name__: layer
    for layer in (
        nn.Conv2d, nn.Conv3d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d,
        nn.Dropout2d, nn.Dropout3d, nn.LeakyReLU, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish,
    )
}  # fmt: skip
_MOST_STAGES = 16
_CHOOSES_LAYER = ("conv_op", "norm_op", "dropout_op", "nonlin")


def builder(name: str) -> Callable[..., nn.Module]:
    """Return what builds the network ``name`` from a ``network_def``."""

    def build(spatial_dims: int, in_channels: int, out_channels: int, **plan: Any) -> nn.Module:
        layers = {key: _layer(plan[key], spatial_dims) for key in _CHOOSES_LAYER if key in plan}
        made: nn.Module = _class(name)(
            input_channels=in_channels,
            num_classes=out_channels,
            **{**plan, **layers},
            deep_supervision=False,
        )
        return made

    return build


def old_plan(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture of a plan of before nnU-Net 2.4, in today's form."""
    name = str(configuration["UNet_class_name"])
    first, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    per_stage = configuration["n_conv_per_stage_encoder"]
    dims = len(configuration["patch_size"])
    if not isinstance(per_stage, list) or len(per_stage) > _MOST_STAGES:
        raise ValueError(f"n_conv_per_stage_encoder must be a list of at most {_MOST_STAGES}")
    return {
        "network_class_name": f"{MODULE}.unet.{name}",
        "arch_kwargs": {
            "n_stages": len(per_stage),
            "features_per_stage": [min(first * 2**i, most) for i in range(len(per_stage))],
            "conv_op": f"Conv{dims}d",
            "kernel_sizes": configuration["conv_kernel_sizes"],
            "strides": configuration["pool_op_kernel_sizes"],
            "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": per_stage,
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }


def _layer(name: str | None, spatial_dims: int) -> type[nn.Module] | None:
    if name is None:
        return None
    layer = _LAYERS.get(name.rpartition(".")[2])
    if layer is None or (layer.__name__[-2:] in ("2d", "3d")) > layer.__name__.endswith(
        f"{spatial_dims}d"
    ):
        raise ValueError(f"layer {name!r} is none of {', '.join(_LAYERS)} for {spatial_dims}-D")
    return layer


def _class(name: str) -> Any:
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        raise RequestError(
            "package_missing",
            found="no package dynamic-network-architectures",
            wanted="it, as it builds the networks of nnU-Net",
            remedy="pip install 'unet-pipeline[nnunet]'",
        ) from error
    return getattr(unet, name)
