"""OpenVINO on CPUs: the network's graph, compiled for this processor, in float32."""

import sys
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from unet_pipeline.inference.engines.means import with_exact_means
from unet_pipeline.inference.engines.protocol import (
    EngineName,
    Problem,
    exported,
    missing,
    need_device,
    no_warnings,
    unsupported,
)


class OpenVINOEngine:
    """A network in OpenVINO.

    Raises
    ------
    RequestError
        ``engine_missing`` without the package; ``engine_unsupported`` on another device, or for a
        network that it cannot convert.
    """

    name: EngineName = "openvino"
    memory_format: torch.memory_format = torch.contiguous_format

    def __init__(self, problem: Problem) -> None:
        need_device(self.name, problem, "cpu")
        self._openvino = openvino = _package()
        try:
            with no_warnings():
                model = openvino.convert_model(with_exact_means(exported(problem)))
            model.reshape(list(problem.shape))
        except Exception as error:  # PyTorch's export and OpenVINO raise many kinds
            raise unsupported(self.name, error) from error
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # never bfloat16, which some processors would take
            "EXECUTION_MODE_HINT": "ACCURACY",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": problem.threads,
            "ENABLE_CPU_PINNING": False,  # all workers of a machine would pin to the same cores
        }
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        self._scores_BKXYZ = torch.empty(tuple(model.output(0).shape))
        self._request.set_output_tensor(self._view(self._scores_BKXYZ))

    def __call__(self, batch_BCXYZ: Tensor) -> Tensor:
        """Return the scores of the deepest head."""
        self._request.set_input_tensor(self._view(batch_BCXYZ))
        self._request.infer()
        return self._scores_BKXYZ

    def _view(self, tensor: Tensor) -> Any:
        """Return OpenVINO's view of a tensor; nothing is copied."""
        return self._openvino.Tensor(tensor.numpy(), shared_memory=True)


def _package() -> Any:
    """Import OpenVINO without its telemetry, which reports each import and conversion to Intel."""
    loaded = cast(dict[str, ModuleType | None], sys.modules)
    loaded.setdefault("openvino_telemetry", None)  # so it cannot be imported
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino", "openvino", "unet-pipeline[openvino]") from error
    return openvino
