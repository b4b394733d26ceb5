"""TensorRT on NVIDIA GPUs, through ``torch_tensorrt`` where that is installed.

No machine of ours has had both, so this file has been read but not run.
"""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from unet_pipeline.choices import EngineName
from unet_pipeline.inference.engines.protocol import (
    EngineKind,
    Problem,
    exported,
    missing,
    need_device,
    no_warnings,
    unsupported,
)


class TensorRTEngine:
    """A network in TensorRT, in float16 where TensorRT finds that faster, as autocast does.

    Raises
    ------
    RequestError
        ``engine_missing`` without the package; ``engine_unsupported`` on another device, or for a
        network that it cannot convert.
    """

    name: EngineName = "tensorrt"
    memory_format: torch.memory_format = torch.contiguous_format

    def __init__(self, problem: Problem) -> None:
        need_device(self.name, problem, "cuda")
        torch_tensorrt = _package()
        example_BCXYZ = torch.zeros(problem.shape, device=problem.device)
        try:
            with no_warnings():
                self._compiled = torch_tensorrt.dynamo.compile(
                    exported(problem),
                    inputs=[example_BCXYZ],
                    enabled_precisions={torch.float32, torch.float16},
                    require_full_compilation=True,
                )
        except Exception as error:  # PyTorch's export and TensorRT raise many kinds
            raise unsupported(self.name, error) from error

    def __call__(self, batch_BCXYZ: Tensor) -> Tensor:
        """Return the scores of the deepest head."""
        scores_BKXYZ: Tensor = self._compiled(batch_BCXYZ)
        return scores_BKXYZ.float()


def _package() -> Any:
    try:
        return import_module("torch_tensorrt")
    except ImportError as error:
        raise missing("tensorrt", "torch_tensorrt", "torch-tensorrt for your torch") from error


ENGINE = EngineKind(TensorRTEngine, auto_on=frozenset({"cuda"}), package="torch_tensorrt")
