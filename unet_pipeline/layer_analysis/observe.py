"""What layers give on the fitting cases: the mean of each channel, and a probe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_pipeline.layer_analysis.cases import OUTSIDE, CaseBlock
from unet_pipeline.layer_analysis.inspected_network import Hook, InspectedNetwork
from unet_pipeline.layer_analysis.probe import Probe, balanced_voxels, features_at, fit_probe


@dataclass(frozen=True)
class Observed:
    """What was learned of one layer from the fitting cases.

    Attributes
    ----------
    mean_C
        Mean of each channel over all voxels of the cases' windows.
    """

    mean_C: Tensor
    probe: Probe


@dataclass
class _Layer:
    """What is gathered of one layer, window by window."""

    sum_C: Tensor | float = 0.0
    voxels: int = 0
    samples: list[Tensor] = field(default_factory=list)


class Observer:
    """Gathers, case by case, what means and probes are fitted on.

    Held in memory are one window's features at a time, and the features of the drawn voxels.

    Parameters
    ----------
    layers
        Names of the layers.
    labels
        Labels that a probe tells apart, background included.
    voxels
        Voxels to draw for the probes from each case, over all labels.

    Attributes
    ----------
    names
        The cases that were added.
    """

    def __init__(
        self,
        inspected: InspectedNetwork,
        layers: Sequence[str],
        labels: Sequence[int],
        voxels: int,
        seed: int,
    ) -> None:
        self.inspected, self.labels, self.seed = inspected, tuple(labels), seed
        self.per_label = ceil(voxels / len(labels))
        self.layers = {name: _Layer() for name in layers}
        self.targets: list[NDArray[np.int64]] = []
        self.frequency = np.zeros(len(labels), np.int64)
        self.names: list[str] = []

    def add(self, block: CaseBlock) -> None:
        """Evaluate the windows of one more case."""
        count = ceil(self.per_label / len(block.windows))
        for number, box in enumerate(block.boxes()):
            labels_XYZ = block.labels_XYZ[box]
            rng = np.random.default_rng([self.seed, len(self.names), number])
            drawn_N3 = balanced_voxels(labels_XYZ, self.labels, count, rng)
            window = torch.from_numpy(np.ascontiguousarray(block.values_CXYZ[(slice(None), *box)]))
            hooks = {name: self._gather(name, drawn_N3) for name in self.layers}
            with self.inspected.hooked(hooks):
                self.inspected.scores(window[None])
            self.targets.append(np.searchsorted(self.labels, labels_XYZ[tuple(drawn_N3.T)]))
        inside = block.labels_XYZ[block.labels_XYZ != OUTSIDE]
        self.frequency += [np.count_nonzero(inside == label) for label in self.labels]
        self.names.append(block.name)

    def fitted(self) -> Iterator[tuple[str, Observed]]:
        """Yield each layer with its means and its probe."""
        targets = torch.from_numpy(np.concatenate(self.targets))
        frequency = torch.from_numpy(self.frequency / max(self.frequency.sum(), 1))
        for name, layer in self.layers.items():
            assert isinstance(layer.sum_C, Tensor)  # noqa: S101  a case was added
            mean_C = (layer.sum_C / layer.voxels).float()
            yield name, Observed(mean_C, fit_probe(torch.cat(layer.samples), targets, frequency))

    def _gather(self, name: str, drawn_N3: NDArray[np.int64]) -> Hook:
        layer, inspected = self.layers[name], self.inspected

        def gather(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
            features = inspected.in_space(output)[0].float()
            layer.sum_C = layer.sum_C + features.double().sum((1, 2, 3)).cpu()
            layer.voxels += features[0].numel()
            layer.samples.append(features_at(features, drawn_N3, inspected.window).cpu())

        return gather
