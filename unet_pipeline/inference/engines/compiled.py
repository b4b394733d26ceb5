"""``torch.compile``: PyTorch's own compiler (Inductor)."""

import os
import shutil
import sys

import torch
from torch import Tensor

from unet_pipeline.caches import compilers_keep_to_it
from unet_pipeline.choices import EngineName
from unet_pipeline.inference.engines.protocol import (
    DeepestHead,
    EngineKind,
    Problem,
    no_warnings,
    unsupported,
)


class CompiledEngine:
    """A network compiled for one shape, as a whole; on CUDA under autocast, as eager.

    Raises
    ------
    RequestError
        ``engine_unsupported`` without a C++ compiler on a CPU, or for a network that does not
        become one graph.
    """

    name: EngineName = "compiled"
    memory_format: torch.memory_format = torch.contiguous_format

    def __init__(self, problem: Problem) -> None:
        self._device = problem.device.type
        if self._device == "cpu" and (compiler := _missing_compiler()):
            raise unsupported(self.name, f"no C++ compiler ({compiler}) on the workers")
        compilers_keep_to_it()
        network = DeepestHead(problem.network).eval()
        self._compiled = torch.compile(network, fullgraph=True, dynamic=False)
        try:
            with no_warnings(), torch.inference_mode():
                self(torch.zeros(problem.shape, device=problem.device))
        except Exception as error:  # the compiler's own, and those of the tools that it calls
            raise unsupported(self.name, error) from error

    def __call__(self, batch_BCXYZ: Tensor) -> Tensor:
        """Return the scores of the deepest head."""
        with torch.autocast(self._device, enabled=self._device == "cuda"):
            scores_BKXYZ: Tensor = self._compiled(batch_BCXYZ)
        return scores_BKXYZ.float()


def _missing_compiler() -> str | None:
    """Return the name of the compiler that Inductor would call, if it is not there."""
    default = "clang++" if sys.platform == "darwin" else "g++"
    compiler = os.environ.get("CXX", default)
    return None if shutil.which(compiler) else compiler


# On a CPU it would work for minutes in every process, to gain little.
ENGINE = EngineKind(CompiledEngine, auto_on=frozenset({"cuda"}))
