"""What a network's weights say of its arguments: channels and classes, and features where they do.

Strides and windows leave no trace in weights, nor do activations without parameters; those are for
the user to say. What is read here is a proposal: the weights must fit the network built of it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Weights = Mapping[str, Tensor]
_LAST = re.compile(r"(^|\.)(output_block|conv_final|final_conv|out_tr|out\.conv)\.(.*\.)?weight$")


def arguments_of(name: str, weights: Weights) -> dict[str, Any]:
    """Return the arguments of the network ``name`` that its weights tell.

    Parameters
    ----------
    name
        A name of the registry, such as ``UNet``.
    weights
        Tensors by name, with or without prefixes.
    """
    kernels = {key: one for key, one in weights.items() if one.ndim > 3 and key.endswith("weight")}
    if not kernels:
        return {}
    dims = max(one.ndim for one in kernels.values()) - 2
    convolutions = {key: one for key, one in kernels.items() if one.ndim == dims + 2}
    first = next(iter(convolutions.values()))
    found = {
        "spatial_dims": dims,
        "in_channels": int(first.shape[1]),
        "out_channels": _classes(convolutions, weights),
    }
    try:
        return {**found, **_READERS.get(name, _nothing)(weights)}
    except (LookupError, ValueError):  # another network's weights: what is wrong shows in the fit
        return found


def _nothing(_: Weights) -> dict[str, Any]:
    return {}


def _classes(convolutions: Weights, weights: Weights) -> int:
    """Return the channels of the last convolution, by its bias where it has one."""
    last = [key for key in convolutions if _LAST.search(key)] or list(convolutions)
    bias = weights.get(last[-1].removesuffix("weight") + "bias")
    return int(convolutions[last[-1]].shape[0] if bias is None else bias.shape[0])


def _ending(weights: Weights, pattern: str) -> list[tuple[re.Match[str], Tensor]]:
    """Return the tensors whose names end as the pattern says, behind any prefix."""
    matches = ((re.search(rf"(?:^|\.){pattern}$", key), one) for key, one in weights.items())
    return [(match, one) for match, one in matches if match is not None]


def _norm(weights: Weights) -> dict[str, Any]:
    return {"norm": "batch"} if _ending(weights, r"N\.running_mean") else {}


def _unet(weights: Weights) -> dict[str, Any]:
    down = r"model\.(0|1(?:\.submodule\.1)*\.submodule(?:\.0)?)\.conv(?:\.unit0\.conv)?\.weight"
    levels = {place[1].count("submodule"): one for place, one in _ending(weights, down)}
    units = _ending(weights, r"model\.0\.conv\.unit\d+\.conv\.weight")
    kernel = list(levels[0].shape[2:])
    return {
        "channels": [int(levels[level].shape[0]) for level in range(len(levels))],
        "num_res_units": len(units),
        **({} if set(kernel) == {3} else {"kernel_size": kernel}),
        **_norm(weights),
    }


def _basic_unet(weights: Weights) -> dict[str, Any]:
    places = [r"conv_0", *(rf"down_{n}\.convs" for n in range(1, 5)), r"upcat_1\.convs"]
    found = [_ending(weights, rf"{place}\.conv_1\.conv\.weight")[0][1] for place in places]
    return {"features": [int(one.shape[0]) for one in found], **_norm(weights)}


def _segresnet(weights: Weights) -> dict[str, Any]:
    def blocks(side: str) -> list[int]:
        found = _ending(weights, rf"{side}\.(\d+)\.(\d+)\.conv1\.conv\.weight")
        places = {(int(match[1]), int(match[2])) for match, _ in found}
        levels = range(max(level for level, _ in places) + 1)
        return [sum(place[0] == level for place in places) for level in levels]

    (_, first), *_ = _ending(weights, r"convInit\.conv\.weight")
    return {
        "init_filters": int(first.shape[0]),
        "blocks_down": blocks("down_layers"),
        "blocks_up": blocks("up_layers"),
    }


def _swin(weights: Weights) -> dict[str, Any]:
    (_, patch), *_ = _ending(weights, r"patch_embed\.proj\.weight")
    return {"feature_size": int(patch.shape[0])}


_READERS: Mapping[str, Callable[[Weights], dict[str, Any]]] = {
    "UNet": _unet,
    "BasicUNet": _basic_unet,
    "SegResNet": _segresnet,
    "SwinUNETR": _swin,
}
