"""Which block feeds which, which side of the network it stands on, and where it is drawn.

Found by experiment, so that it holds for any network: the output of every block is held as it is,
one block's output is disturbed, and the blocks that then compute something else use it directly.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from unet_pipeline.evaluation.layer_records import LayerRecord
from unet_pipeline.layer_analysis.inspected_network import Hook, InspectedNetwork
from unet_pipeline.networks.nested import NestedUNet

_NESTED = re.compile(r"(?P<kind>conv|upcat|final_conv)_(?P<level>\d+)_(?P<step>\d+)")
Place = tuple[float, float]


def wired(inspected: InspectedNetwork, layers: Sequence[LayerRecord]) -> list[LayerRecord]:
    """Return the layers with what they feed, their side and their place; parts take their block's.

    Parameters
    ----------
    layers
        All layers of the network, in order of execution.
    """
    blocks = [one for one in layers if one.block]
    feeds = direct_links(inspected, [one.layer for one in blocks])
    sides = _sides(blocks, feeds, inspected.out_channels)
    places = _places(inspected.network, blocks)
    made = []
    for one in layers:
        block = next((b.layer for b in blocks if f"{one.layer}.".startswith(f"{b.layer}.")), "")
        at = places.get(one.layer)
        made.append(
            replace(one, side=sides.get(block, ""), place=at, feeds=feeds.get(one.layer, ()))
        )
    return made


def direct_links(inspected: InspectedNetwork, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return for each layer the others that use its output, without another one between them."""
    x, held = inspected.example(), dict[str, Tensor]()
    with inspected.hooked({name: _keep(name, held) for name in names}), torch.no_grad():
        inspected.network(x)
    links = {}
    for number, source in enumerate(names):
        changed: list[str] = []
        noise = torch.Generator().manual_seed(number)
        hooks = {name: _hold(name, source, held, changed, noise) for name in names}
        with inspected.hooked(hooks), torch.no_grad():
            inspected.network(x)
        links[source] = tuple(name for name in names if name in changed)
    return links


def _keep(name: str, held: dict[str, Tensor]) -> Hook:
    def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        held[name] = output.clone()  # what follows may work in place

    return keep


def _hold(
    name: str, source: str, held: Mapping[str, Tensor], changed: list[str], noise: torch.Generator
) -> Hook:
    def hold(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if name == source:
            return held[name] + torch.randn(output.shape, generator=noise).to(output)
        if not torch.equal(output, held[name]):
            changed.append(name)
        return held[name].clone()

    return hold


def _sides(
    blocks: Sequence[LayerRecord], feeds: Mapping[str, Collection[str]], out_channels: int
) -> dict[str, str]:
    """Return each block's side: the decoder is what has seen a scale coarser than its own."""
    coarsest: dict[str, float] = {}  # of all blocks that a block depends on
    sides = {}
    for block in blocks:
        own, seen = prod(block.scale), coarsest.get(block.layer, 1.0)
        is_output = not feeds[block.layer] and block.shape[0] == out_channels
        sides[block.layer] = "output" if is_output else "decoder" if seen < own else "encoder"
        for target in feeds[block.layer]:
            coarsest[target] = min(coarsest.get(target, 1.0), own, seen)
    return sides


def _places(network: nn.Module, blocks: Sequence[LayerRecord]) -> dict[str, Place]:
    """Return column and row of each block: by X^{i,j} if nested, else by order and by scale."""
    if isinstance(network, NestedUNet):
        return {one.layer: _grid_place(one.layer) for one in blocks}
    scales = sorted({prod(one.scale) for one in blocks}, reverse=True)
    return {
        one.layer: (float(column), float(scales.index(prod(one.scale))))
        for column, one in enumerate(blocks)
    }


def _grid_place(name: str) -> Place:
    """Return where X^{i,j} stands: right of what it takes from below; heads above their node."""
    found = _NESTED.fullmatch(name)
    assert found is not None  # noqa: S101  the nested network's own names
    level, step = int(found["level"]), int(found["step"])
    return float(level + 2 * step), -1.0 if found["kind"] == "final_conv" else float(level)
