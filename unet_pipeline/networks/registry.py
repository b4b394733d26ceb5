"""Networks by name: a MONAI ``network_def`` becomes a ``torch.nn.Module``.

Only the targets in ``KNOWN`` can be built. Nothing is imported by name and no ``$`` expression is
evaluated, so a bundle from a stranger can choose a network but cannot run code.

To add a network: one entry in ``KNOWN`` with its class, its module, and the sizes that its windows
must be divisible by (``docs/networks.md``).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.networks.nets.vnet import VNet
from torch import Tensor, nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks import programs
from unet_pipeline.networks.arguments import check_arguments
from unet_pipeline.networks.asymmetric import AsymmetricUNet
from unet_pipeline.networks.blocks import per_axis
from unet_pipeline.networks.bundle_config import WITH_TRUST
from unet_pipeline.networks.limits import check_size, without_storage
from unet_pipeline.networks.nested import NestedUNet, monai_unetpp
from unet_pipeline.networks.nnunet import architecture

MONAI_NETS = "monai.networks.nets"
OUR_NETS = "unet_pipeline.networks"
_IGNORED_KEYS = frozenset({"_target_", "_desc_"})
_WRONG_ARGUMENTS = (  # what constructors raise for arguments of wrong types or numbers
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class NetworkContract:
    """What a network asks of its input and promises of its output.

    Attributes
    ----------
    in_channels, out_channels
        Channels of the input and of each head.
    spatial_dims
        2 or 3.
    stride
        Size in voxels, per axis, that each window size must be divisible by.
    """

    in_channels: int
    out_channels: int
    spatial_dims: int
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Kind:
    build: Callable[..., nn.Module]
    stride: Callable[[Mapping[str, Any]], tuple[int, ...]]
    module: str = MONAI_NETS


def _halvings(count: int) -> Callable[[Mapping[str, Any]], tuple[int, ...]]:
    return lambda arguments: (2**count,) * int(arguments["spatial_dims"])


def _blocks_down(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    return (2 ** (len(arguments["blocks_down"]) - 1),) * int(arguments["spatial_dims"])


def _product_of_strides(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    dims = int(arguments["spatial_dims"])
    features = arguments.get("features") or arguments.get("encoder_features") or ()
    total = [1] * dims
    for level in arguments["strides"] or [2] * (len(features) - 1):
        total = [size * step for size, step in zip(total, per_axis(level, dims), strict=True)]
    return tuple(total)


def _swin_unetr(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 3,
    img_size: Any = None,  # noqa: ARG001
    **options: Any,
) -> SwinUNETR:
    """Build MONAI's SwinUNETR; older bundles name the window's size, which it no longer takes."""
    return SwinUNETR(in_channels, out_channels, spatial_dims=spatial_dims, **options)


def _any_window(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    return (1,) * int(arguments["spatial_dims"])


KNOWN: Mapping[str, _Kind] = {
    "NestedUNet": _Kind(NestedUNet, _product_of_strides, OUR_NETS),
    "AsymmetricUNet": _Kind(AsymmetricUNet, _product_of_strides, OUR_NETS),
    "UNet": _Kind(UNet, _product_of_strides),
    "BasicUNet": _Kind(BasicUNet, _halvings(4)),
    "BasicUNetPlusPlus": _Kind(monai_unetpp, _halvings(4)),
    "AttentionUnet": _Kind(AttentionUnet, _product_of_strides),
    "DynUNet": _Kind(DynUNet, _product_of_strides),
    "SegResNet": _Kind(SegResNet, _blocks_down),
    "SwinUNETR": _Kind(_swin_unetr, _halvings(5)),
    "PlainConvUNet": _Kind(
        architecture.builder("PlainConvUNet"), _product_of_strides, architecture.MODULE
    ),
    "ResidualEncoderUNet": _Kind(
        architecture.builder("ResidualEncoderUNet"), _product_of_strides, architecture.MODULE
    ),
    "VNet": _Kind(VNet, _halvings(4)),
    "Program": _Kind(programs.build, _any_window, OUR_NETS),
}

NAMES = tuple(name for name in KNOWN if name != "Program")  # that a network_def can have


def build_network(
    network_def: Mapping[str, Any], *, seed: int | None = None, file_bytes: int | None = None
) -> nn.Module:
    """Build a network with random weights, in training mode, on the CPU.

    Parameters
    ----------
    network_def
        MONAI component: ``_target_`` and the arguments of its constructor. The target is a name in
        ``KNOWN``, alone or with its module.
    seed
        Seed of the weights. By default torch's global generator is used.
    file_bytes
        Size of the file of its weights, where there is one.

    Raises
    ------
    RequestError
        ``network_unknown`` for another target, ``network_invalid`` for wrong arguments, and for
        a network that is larger than its weights, before it takes up memory.
    """
    kind, arguments = _known(network_def)
    if file_bytes is not None:
        check_network(network_def, file_bytes)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return kind.build(**arguments)
        except _WRONG_ARGUMENTS as error:
            raise _invalid(network_def, error) from error


def missing_arguments(network_def: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments that the constructor wants and ``network_def`` lacks."""
    kind, arguments = _known(network_def)
    parameters = inspect.signature(kind.build).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return [name for name in needed if name not in arguments]


def check_network(network_def: Mapping[str, Any], file_bytes: int) -> None:
    """Check that a network can be built, and is no larger than its weights; takes no memory.

    Raises
    ------
    RequestError
        As ``build_network``.
    """
    kind, arguments = _known(network_def)
    try:
        check_size(partial(kind.build, **arguments), file_bytes)
    except _WRONG_ARGUMENTS as error:
        raise _invalid(network_def, error) from error


def network_contract(network_def: Mapping[str, Any]) -> NetworkContract:
    """Say what the network of ``network_def`` asks and promises, without building it.

    Raises
    ------
    RequestError
        As ``build_network``.
    """
    kind, arguments = _known(network_def)
    try:
        bound = inspect.signature(kind.build).bind(**arguments)
        bound.apply_defaults()
        given = {**bound.arguments, **arguments}
        return NetworkContract(
            in_channels=int(given["in_channels"]),
            out_channels=int(given["out_channels"]),
            spatial_dims=int(given["spatial_dims"]),
            stride=_positive(kind.stride(given)),
        )
    except _WRONG_ARGUMENTS as error:
        raise _invalid(network_def, error) from error


def _positive(stride: tuple[int, ...]) -> tuple[int, ...]:
    if min(stride) < 1:
        raise ValueError(f"strides whose product is {stride}")
    return stride


def network_without_storage(network_def: Mapping[str, Any]) -> tuple[nn.Module, int]:
    """Return a network whose weights take up no memory (device ``meta``), and its input channels.

    Raises
    ------
    RequestError
        As ``build_network``.
    """
    kind, arguments = _known(network_def)
    channels = network_contract(network_def).in_channels
    try:
        return without_storage(partial(kind.build, **arguments)), channels
    except _WRONG_ARGUMENTS as error:
        raise _invalid(network_def, error) from error


def check_window(network_def: Mapping[str, Any], window: Sequence[int]) -> None:
    """Check that a network can take a window of so many voxels along each axis.

    Raises
    ------
    RequestError
        ``roi_size_invalid``, which names the nearest sizes that it can take.
    """
    stride = network_contract(network_def).stride
    if all(size % step == 0 for size, step in zip(window, stride, strict=True)):
        return
    nearest = [_near(size, step) for size, step in zip(window, stride, strict=True)]
    raise RequestError(
        "roi_size_invalid",
        found=f"a window (roi_size) of {' x '.join(map(str, window))} voxels",
        wanted=f"sizes divisible by {' x '.join(map(str, stride))}, the network's stride",
        remedy=f"Take {' x '.join(nearest)}",
    )


def check_smallest_window(network_def: Mapping[str, Any], window: Sequence[int]) -> None:
    """Check that a network bears a window as small as its stride: norms of one voxel do not.

    The network is built without storage, and so is the window: it may be large.

    Raises
    ------
    RequestError
        ``roi_size_invalid``, which names the next larger size.
    """
    contract = network_contract(network_def)
    if tuple(window) != contract.stride:
        return
    kind, arguments = _known(network_def)
    if kind.build is programs.build:
        return
    network = without_storage(partial(kind.build, **arguments)).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, contract.in_channels, *window, device="meta"))
    except ValueError as error:
        raise RequestError(
            "roi_size_invalid",
            found=f"a window (roi_size) of {' x '.join(map(str, window))} voxels, of which one is "
            "left at the deepest level",
            wanted="at least two there, which the network's norm needs",
            remedy=f"Take {' x '.join(str(2 * step) for step in contract.stride)}",
        ) from error


def _near(size: int, step: int) -> str:
    below = size // step * step
    if below == size:
        return str(size)
    return f"{below} or {below + step}" if below else str(step)


def final_scores(output: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the scores of the deepest head.

    Parameters
    ----------
    output
        What the network returned: scores (B, C, X, Y, Z), or one such tensor per head, shallow to
        deep. MONAI's UNet++ returns a list even when it has a single head.
    """
    return output if isinstance(output, Tensor) else output[-1]


def _known(network_def: Mapping[str, Any]) -> tuple[_Kind, dict[str, Any]]:
    target = str(network_def.get("_target_"))
    module, _, name = target.rpartition(".")
    kind = KNOWN.get(name)
    if kind is None or (module and not f"{module}.".startswith(f"{kind.module}.")):
        raise RequestError(
            "network_unknown",
            found=f"network_def with _target_ {target!r}",
            wanted=f"one of {', '.join(NAMES)}, alone or with its module",
            remedy=f"Choose a bundle with one of these networks, {WITH_TRUST}",
        )
    arguments = {str(key): value for key, value in network_def.items() if key not in _IGNORED_KEYS}
    try:
        check_arguments(arguments)
    except ValueError as error:
        raise _invalid(network_def, error) from error
    return kind, arguments


def _invalid(network_def: Mapping[str, Any], error: Exception) -> RequestError:
    return RequestError(
        "network_invalid",
        found=f"{error} (in network_def {network_def['_target_']})",
        wanted="arguments that the network's constructor takes",
        remedy="Correct network_def in the bundle's configs/inference.json",
    )
