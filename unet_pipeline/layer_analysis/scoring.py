"""Dice of a case's block: of the network, of probes, and of the network with parts replaced."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unet_pipeline.errors import CaseError
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.inference.importance import importance_map
from unet_pipeline.inference.spec import Blend
from unet_pipeline.layer_analysis.cases import OUTSIDE, CaseBlock
from unet_pipeline.layer_analysis.inspected_network import InspectedNetwork
from unet_pipeline.layer_analysis.observe import Observed
from unet_pipeline.layer_analysis.probe import Probe
from unet_pipeline.tiling.decision import Decision, Highest

Dice = Mapping[int, float | None]
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ScoringRequest:
    """What is asked of every scored case.

    Attributes
    ----------
    layers
        What was learned of each layer, by name.
    sides
        Blocks of each side.
    groups
        Channel groups that a layer is divided into; 0 for none.
    decision, labels
        How the network's channels become a label, and which labels there are, background included.
    """

    layers: Mapping[str, Observed]
    sides: Mapping[str, Sequence[str]]
    groups: int
    decision: Decision
    labels: tuple[int, ...]
    blend: Blend


@dataclass(frozen=True)
class CaseScores:
    """Dice per label of one case, of everything that was asked.

    Attributes
    ----------
    whole
        Of the network as it is.
    probes, without
        Of each layer's probe; of the network with the layer replaced by its mean.
    without_group
        Of the network with one channel group of a layer replaced, for each group.
    without_share
        Of the network with that group replaced in all blocks of a side, for each group.
    """

    case: str
    whole: Dice
    probes: Mapping[str, Dice]
    without: Mapping[str, Dice]
    without_group: Mapping[str, tuple[Dice, ...]]
    without_share: Mapping[str, tuple[Dice, ...]]


def score_case(
    inspected: InspectedNetwork, block: CaseBlock, request: ScoringRequest
) -> CaseScores:
    """Evaluate a case as often as the request asks.

    Raises
    ------
    CaseError
        ``scores_not_finite`` if the network as it is gives NaN or infinite scores.
    """
    scorer = _Scorer(inspected, block, request)
    whole = scorer.network()
    probes, without, without_group = {}, {}, {}
    for name, seen in request.layers.items():
        probes[name] = scorer.probe(name, seen.probe)
        without[name] = scorer.network({name: seen.mean_C})
        without_group[name] = tuple(
            scorer.network({name: seen.mean_C}, {name: group})
            for group in channel_groups(len(seen.mean_C), request.groups)
        )
    without_share = {
        side: tuple(scorer.side(names)) for side, names in request.sides.items() if names
    }
    return CaseScores(block.name, whole, probes, without, without_group, without_share)


def channel_groups(channels: int, groups: int) -> list[list[int]]:
    """Return neighbouring channels in ``groups`` parts of about equal size; none are empty."""
    if groups < 2:
        return []
    parts = np.array_split(np.arange(channels), min(groups, channels))
    return [part.tolist() for part in parts]


class _Scorer:
    """Scores one case, again and again."""

    def __init__(
        self, inspected: InspectedNetwork, block: CaseBlock, request: ScoringRequest
    ) -> None:
        self.inspected, self.block, self.request = inspected, block, request
        self.importance = torch.from_numpy(importance_map(block.roi_size, request.blend))

    def network(
        self,
        means: Mapping[str, Tensor] | None = None,
        channels: Mapping[str, Sequence[int]] | None = None,
    ) -> Dice:
        """Return the Dice of the network with these layers replaced."""
        with self.inspected.replaced(means or {}, channels):
            scores_CXYZ = self._blended(self.inspected.scores)
        if not np.isfinite(scores_CXYZ).all():
            raise CaseError(
                "scores_not_finite",
                found="scores that are NaN or infinite",
                wanted="finite scores",
                remedy="Check the image's intensities and the bundle's preprocessing",
                subject=self.block.name,
            )
        decision = self.request.decision
        scores = (decision.before_resampling(channel) for channel in scores_CXYZ)
        return self._dice(decision.decide(scores, np.uint16))

    def probe(self, layer: str, probe: Probe) -> Dice:
        """Return the Dice of a layer's probe."""
        shape = self.block.roi_size

        def predict(window: Tensor) -> Tensor:
            return probe.scores(self.inspected.features(window, layer), shape)

        best_XYZ = Highest().decide(self._blended(predict), np.uint16)
        return self._dice(np.array(self.request.labels)[best_XYZ])

    def side(self, names: Sequence[str]) -> Iterator[Dice]:
        """Yield the Dice of the network without the first group of all layers, the second ..."""
        means = {name: self.request.layers[name].mean_C for name in names}
        for number in range(self.request.groups if self.request.groups > 1 else 0):
            channels = {
                name: group[number]
                for name, mean in means.items()
                if number < len(group := channel_groups(len(mean), self.request.groups))
            }
            yield self.network({name: means[name] for name in channels}, channels)

    def _blended(self, predict: Predict) -> NDArray[np.float32]:
        """Return the weighted mean of the windows' scores on the block, CXYZ."""
        block, total, weight = self.block, None, torch.zeros(self.block.box.shape)
        for box in block.boxes():
            window = torch.from_numpy(np.ascontiguousarray(block.values_CXYZ[(slice(None), *box)]))
            scores = predict(window[None])[0].cpu()
            if total is None:
                total = torch.zeros((scores.shape[0], *block.box.shape))
            total[(slice(None), *box)] += scores * self.importance
            weight[box] += self.importance
        assert total is not None  # noqa: S101  a block has a window
        return (total / weight).numpy()

    def _dice(self, found_XYZ: NDArray[np.integer]) -> Dice:
        inside = self.block.labels_XYZ != OUTSIDE
        foreground = [label for label in self.request.labels if label]
        return dice_per_label(found_XYZ[inside], self.block.labels_XYZ[inside], foreground)
