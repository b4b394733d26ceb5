"""The network under inspection: its layers can be watched, frozen and replaced while it runs.

All of it is done by forward hooks that live no longer than a ``with`` block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unet_pipeline.networks.registry import final_scores
from unet_pipeline.networks.slices import SliceNetwork

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


class _ReachedError(Exception):
    """Raised by a hook to end a forward pass at its layer; it never leaves ``InspectedNetwork``."""


@dataclass(frozen=True)
class InspectedNetwork:
    """A network in evaluation mode, and how it is fed.

    Attributes
    ----------
    network
        As the bundle describes it, 2-D or 3-D; layers are named as its submodules.
    in_channels, out_channels
        Of the network.
    window
        Voxels of a window along the three axes of the model grid.
    slice_axis
        Axis along which a 2-D network takes slices; None for a 3-D network.
    """

    network: nn.Module
    in_channels: int
    out_channels: int
    window: tuple[int, int, int]
    slice_axis: int | None = None

    @property
    def in_plane(self) -> tuple[int, ...]:
        """The sizes of a window that the network sees: without the axis of slices."""
        return tuple(n for axis, n in enumerate(self.window) if axis != self.slice_axis)

    @property
    def device(self) -> torch.device:
        """Where the network's parameters are."""
        return next(self.network.parameters()).device

    def example(self, seed: int = 0) -> Tensor:
        """Return normal noise of one window, as the network itself takes it: (1, C, ...)."""
        made = torch.Generator().manual_seed(seed)
        return torch.randn(1, self.in_channels, *self.in_plane, generator=made).to(self.device)

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores of windows (B, C, X, Y, Z) at the network's deepest head, float32."""
        with torch.inference_mode():
            return final_scores(self._runs()(x.to(self.device))).float()

    def features(self, x: Tensor, layer: str) -> Tensor:
        """Return what a layer makes of windows, (B, C, X', Y', Z'); what comes after is not run."""
        found: list[Tensor] = []

        def stop(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
            found.append(output)
            raise _ReachedError

        with self.hooked({layer: stop}), torch.inference_mode(), suppress(_ReachedError):
            self._runs()(x.to(self.device))
        return self.in_space(found[0]).float()

    def in_space(self, output: Tensor) -> Tensor:
        """Return a layer's output with all three axes: a 2-D network's slices get theirs back."""
        return output if self.slice_axis is None else output.unsqueeze(self.slice_axis + 2)

    @contextmanager
    def hooked(self, hooks: Mapping[str, Hook]) -> Iterator[None]:
        """Put forward hooks on layers; they are gone afterwards, whatever happens."""
        handles = []
        try:
            for name, hook in hooks.items():
                handles.append(self.network.get_submodule(name).register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaced(
        self, means: Mapping[str, Tensor], channels: Mapping[str, Sequence[int]] | None = None
    ) -> Iterator[None]:
        """Let layers give a constant for each channel, whatever they compute.

        Parameters
        ----------
        means
            For each layer the constant of each channel, (C,).
        channels
            For each layer the channels that are replaced. Default: all.
        """
        hooks = {
            name: _constant(mean.to(self.device), (channels or {}).get(name))
            for name, mean in means.items()
        }
        with self.hooked(hooks):
            yield

    def _runs(self) -> nn.Module:
        if self.slice_axis is None:
            return self.network
        return SliceNetwork(self.network, self.slice_axis)


def _constant(mean_C: Tensor, channels: Sequence[int] | None) -> Hook:
    chosen = slice(None) if channels is None else list(channels)

    def replace(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        changed = output.clone()
        values = mean_C[chosen].to(output.dtype)
        changed[:, chosen] = values.view(1, -1, *(1,) * (output.ndim - 2))
        return changed

    return replace
