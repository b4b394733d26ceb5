"""OpenVINO on CPUs: the network's graph, compiled for this processor, in float32."""

import hashlib
import logging
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from unet_pipeline import networks
from unet_pipeline.choices import EngineName
from unet_pipeline.inference.cache import versions_of
from unet_pipeline.inference.engines.means import with_exact_means
from unet_pipeline.inference.engines.protocol import (
    EngineKind,
    Problem,
    exported,
    missing,
    need_device,
    no_warnings,
    unsupported,
)
from unet_pipeline.inference.graph_cache import Graph, load_graph, save_graph
from unet_pipeline.scratch import scratch_folder

log = logging.getLogger(__name__)

_VERSIONS = ("openvino", "torch", "monai", "dynamic_network_architectures")
_CODE = (Path(networks.__file__).parent, Path(__file__).parent)


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
        core = openvino.Core()
        model = _kept(core, problem) or _converted(openvino, problem)
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # never bfloat16, which some processors would take
            "EXECUTION_MODE_HINT": "ACCURACY",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": problem.threads,
            "ENABLE_CPU_PINNING": False,  # all workers of a machine would pin to the same cores
        }
        self._request = core.compile_model(model, "CPU", options).create_infer_request()
        scores_BXYZK = torch.empty(tuple(model.output(0).shape))
        self._request.set_output_tensor(self._view(scores_BXYZK))
        self._scores_BKXYZ = scores_BXYZK.permute(0, 4, 1, 2, 3)

    def __call__(self, batch_BCXYZ: Tensor) -> Tensor:
        """Return the scores of the deepest head."""
        self._request.set_input_tensor(self._view(batch_BCXYZ))
        self._request.infer()
        return self._scores_BKXYZ

    def _view(self, tensor: Tensor) -> Any:
        """Return OpenVINO's view of a tensor; nothing is copied."""
        return self._openvino.Tensor(tensor.numpy(), shared_memory=True)


def _converted(openvino: Any, problem: Problem) -> Any:
    """Convert a network, and keep what came of it for other workers and runs."""
    try:
        with no_warnings():
            model = openvino.convert_model(with_exact_means(exported(problem)))
        model.reshape(list(problem.shape))
        model = _classes_last(openvino, model)
    except Exception as error:  # PyTorch's export and OpenVINO raise many kinds
        raise unsupported(OpenVINOEngine.name, error) from error
    if problem.made_from is not None:
        _keep(openvino, model, _key(problem.made_from))
    return model


def _classes_last(openvino: Any, model: Any) -> Any:
    """Let scores come out as they lie in memory, BXYZK.

    Turning them into BKXYZ took 15 % of a window of 25 classes; whoever adds them does so in the
    caches (``kernels.add_weighted_turned``).
    """
    ops = openvino.opset13
    scores = model.get_results()[0].input_value(0)
    turned = ops.transpose(scores, ops.constant([0, 2, 3, 4, 1]))
    return openvino.Model([turned.output(0)], model.get_parameters(), model.get_friendly_name())


def _keep(openvino: Any, model: Any, key: Mapping[str, Any]) -> None:
    try:
        with scratch_folder() as folder:
            path = folder / "model.xml"
            openvino.save_model(model, path, compress_to_fp16=False)
            graph = Graph(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    except (OSError, RuntimeError) as error:  # a full disk is no reason to end a run
        log.info("the converted network is not kept: %s", error)
    else:
        save_graph(key, graph)


def _kept(core: Any, problem: Problem) -> Any:
    """Return the converted network that was kept, which gives the same bits; None without one."""
    graph = None
    if problem.made_from is not None:
        graph = load_graph(_key(problem.made_from))
    try:
        return graph and core.read_model(graph.graph, graph.weights)
    except RuntimeError as error:
        log.info("the converted network is made anew: %s", error)
        return None


def _key(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a converted network holds for: what it is made from, and the code on its way."""
    return {
        "engine": OpenVINOEngine.name,
        "made_from": made_from,
        "code": _code_digest(),
        "versions": versions_of(_VERSIONS),
    }


@cache
def _code_digest() -> str:
    """Return the digest of our own part of the way: the networks, and how they are converted."""
    files = [path for folder in _CODE for path in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _package() -> Any:
    """Import OpenVINO without its telemetry, which reports each import and conversion to Intel."""
    loaded = cast(dict[str, ModuleType | None], sys.modules)
    loaded.setdefault("openvino_telemetry", None)  # so it cannot be imported
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino", "openvino", "unet-pipeline[openvino]") from error
    return openvino


ENGINE = EngineKind(OpenVINOEngine, auto_on=frozenset({"cpu"}), package="openvino")
