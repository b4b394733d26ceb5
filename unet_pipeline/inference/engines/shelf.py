"""All engines by name."""

from collections.abc import Callable, Mapping

from unet_pipeline.choices import EngineName
from unet_pipeline.inference.engines.compiled import CompiledEngine
from unet_pipeline.inference.engines.eager import EagerEngine
from unet_pipeline.inference.engines.openvino import OpenVINOEngine
from unet_pipeline.inference.engines.protocol import Engine, Problem
from unet_pipeline.inference.engines.tensorrt import TensorRTEngine

ENGINES: Mapping[EngineName, Callable[[Problem], Engine]] = {
    "eager": EagerEngine,
    "compiled": CompiledEngine,
    "openvino": OpenVINOEngine,
    "tensorrt": TensorRTEngine,
}


def make_engine(name: EngineName, problem: Problem) -> Engine:
    """Make an engine.

    Raises
    ------
    RequestError
        ``engine_missing`` if what it needs is not installed, ``engine_unsupported`` if it cannot
        run this network on this device.
    """
    return ENGINES[name](problem)
