"""Which layers a network has: found by running one window, not by knowing the network.

A *block* is the largest part of a network that works between two scales at most: that of its input
and that of its output. So a stage of an encoder or a node of a decoder is a block, and what holds
both an encoder and a decoder is not, however deep its modules are nested in each other.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from monai.networks.layers.simplelayers import SkipConnection
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.layer_records import LayerRecord
from unet_pipeline.layer_analysis.inspected_network import Hook, InspectedNetwork

Scale = tuple[float, ...]
_MOST_SCALES = 2  # of a block; a decoder that is given the skips of all scales is none


@dataclass
class _Calls:
    """What was seen of one module in a forward pass."""

    order: int
    shape: tuple[int, ...] | None
    scale: Scale | None
    input_scales: set[Scale | None]
    count: int = 1


def list_layers(inspected: InspectedNetwork) -> list[LayerRecord]:
    """Return every layer that gives a feature map on the window's grid, in order of execution.

    A layer that is called several times in one evaluation is left out: it has no one output.

    Raises
    ------
    RequestError
        ``layers_hidden`` for a network without modules that can be looked into (a program).
    """
    calls, adds = _run(inspected)
    blocks = _Blocks(inspected.network, calls).found
    found = [
        LayerRecord(
            layer=name,
            kind=type(module).__name__,
            block=name in blocks,
            shape=call.shape or (),
            scale=call.scale or (),
            parameters=sum(p.numel() for p in module.parameters()),
            multiply_adds=adds.get(name, 0),
        )
        for name, module in inspected.network.named_modules()
        if name and (call := calls.get(name)) and call.scale and call.count == 1
    ]
    if not found:
        raise RequestError(
            "layers_hidden",
            found="a network without modules that can be looked into",
            wanted="modules whose outputs are feature maps; a program (TorchScript, torch.export) "
            "shows none",
            remedy="Take a bundle with weights and a network_def",
        )
    return sorted(found, key=lambda one: _start(one.layer, calls))


def choose_layers(layers: Sequence[LayerRecord], wanted: Sequence[str]) -> list[LayerRecord]:
    """Return the layers of these names or patterns; the blocks if none is wanted.

    In a pattern a star stands for anything but a dot: ``upcat_0_*`` are nodes, ``upcat_0_1.*`` the
    parts of one.

    Raises
    ------
    RequestError
        ``layer_unknown`` for a name or a pattern that fits no layer.
    """
    if not wanted:
        return [one for one in layers if one.block]
    names = [one.layer for one in layers]
    for pattern in wanted:
        if not any(_fits(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
            raise RequestError(
                "layer_unknown",
                found=f"layer {pattern!r}",
                wanted=f"one of {len(names)} layers, such as {', '.join(near)}",
                remedy="See unet-pipeline layers --list --all",
            )
    return [one for one in layers if any(_fits(one.layer, pattern) for pattern in wanted)]


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _run(inspected: InspectedNetwork) -> tuple[dict[str, _Calls], dict[str, int]]:
    """Evaluate one window; return what was seen of each module, and its multiply-adds."""
    calls: dict[str, _Calls] = {}
    network, counter = inspected.network, FlopCounterMode(display=False)
    hooks = {name: _recorder(name, calls, inspected) for name, _ in network.named_modules() if name}
    with inspected.hooked(hooks), torch.no_grad(), counter:
        network(inspected.example())
    return calls, _multiply_adds(network, counter)


def _multiply_adds(network: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    """Return what was counted, by the first name of each module: some have several."""
    names, prefix = _names(network), f"{type(network).__name__}."
    adds: dict[str, int] = {}
    for name, per_operation in counter.get_flop_counts().items():
        if str(name).startswith(prefix):
            module = network.get_submodule(str(name).removeprefix(prefix))
            adds[names[id(module)]] = sum(per_operation.values()) // 2
    return adds


def _names(network: nn.Module) -> dict[int, str]:
    return {id(module): name for name, module in network.named_modules()}


def _recorder(name: str, calls: dict[str, _Calls], inspected: InspectedNetwork) -> Hook:
    def record(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if name in calls:
            calls[name].count += 1
            return
        single = isinstance(output, Tensor) and output.ndim == 2 + len(inspected.in_plane)
        calls[name] = _Calls(
            order=len(calls),
            shape=tuple(output.shape[1:]) if single else None,
            scale=_scale(output, inspected) if single else None,
            input_scales={_scale(x, inspected) for x in _tensors(inputs)},
        )

    return record


def _scale(output: Tensor, inspected: InspectedNetwork) -> Scale | None:
    """Return how fine an output is against the window, per axis; None if it is no such grid."""
    sizes, window = output.shape[2:], inspected.in_plane
    if len(sizes) != len(window) or not all(0 < n <= w for n, w in zip(sizes, window, strict=True)):
        return None
    return tuple(round(n / w, 6) for n, w in zip(sizes, window, strict=True))


def _tensors(inputs: Any) -> Iterator[Tensor]:
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, list | tuple):
        for one in inputs:
            yield from _tensors(one)


class _Blocks:
    """Finds the blocks from the top of a network downwards."""

    def __init__(self, network: nn.Module, calls: dict[str, _Calls]) -> None:
        self.names, self.calls = _names(network), calls
        # transformers also have tensors of other axis orders, which look like other scales
        self.grids = {self._call(m).scale for m in network.modules() if self._is_seen_conv(m)}
        self.found: set[str] = set()
        self._look_below(network)

    def _look_below(self, module: nn.Module) -> None:
        for child in module.children():
            if self._is_block(child):
                self.found.add(self.names[id(child)])
            else:
                self._look_below(child)

    def _is_block(self, module: nn.Module) -> bool:
        if not self._is_seen(module) or isinstance(module, SkipConnection):
            return False
        call, parts = self._call(module), [m for m in module.modules() if m is not module]
        inside = {self._call(part).scale for part in parts if self._is_seen(part)} & self.grids
        ends = {call.scale, *(call.input_scales & self.grids)}
        return (
            call.scale is not None
            and call.count == 1
            and any(True for _ in module.parameters())
            and inside <= {call.scale, *call.input_scales}
            and len(ends) <= _MOST_SCALES
        )

    def _is_seen(self, module: nn.Module) -> bool:
        return self.names[id(module)] in self.calls

    def _is_seen_conv(self, module: nn.Module) -> bool:
        return isinstance(module, _ConvNd) and self._is_seen(module)

    def _call(self, module: nn.Module) -> _Calls:
        return self.calls[self.names[id(module)]]


def _start(name: str, calls: dict[str, _Calls]) -> tuple[int, int]:
    """Sort key: when a module begins, which is when the first module inside it ends."""
    inside = (c.order for inner, c in calls.items() if inner.startswith(f"{name}."))
    return min(inside, default=calls[name].order), name.count(".")
