"""PyTorch as it is, layer by layer: the engine that all others are held against."""

import torch
from torch import Tensor

from unet_pipeline.choices import EngineName
from unet_pipeline.inference.engines.protocol import EngineKind, Problem
from unet_pipeline.networks.registry import final_scores


class EagerEngine:
    """Calls the network.

    Parameters
    ----------
    exact
        Float32 throughout. By default CUDA works under autocast, in which convolutions and matrix
        products are of float16.
    """

    name: EngineName = "eager"
    memory_format: torch.memory_format = torch.contiguous_format

    def __init__(self, problem: Problem, *, exact: bool = False) -> None:
        self._network, self._device = problem.network, problem.device.type
        self._halves = self._device == "cuda" and not exact

    def __call__(self, batch_BCXYZ: Tensor) -> Tensor:
        """Return the scores of the deepest head."""
        with torch.autocast(self._device, enabled=self._halves):
            return final_scores(self._network(batch_BCXYZ)).float()


ENGINE = EngineKind(EagerEngine)
