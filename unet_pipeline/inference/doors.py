"""The ways to torch for modules that the driver imports, too: it is imported by the first call.

What a worker is asked for is named by the driver, which runs no network. So the modules of calls
come here, and import neither torch nor MONAI themselves (``pyproject.toml`` has it as a contract).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from unet_pipeline.choices import EngineWish
from unet_pipeline.inference.engine_choice import EngineChoice
from unet_pipeline.inference.spec import Blend, ModelSpec
from unet_pipeline.tiling.box import Index3
from unet_pipeline.tiling.merge import Scores

if TYPE_CHECKING:
    from unet_pipeline.inference.predictor import Predictor

_T = TypeVar("_T")


def predictor_for(spec: ModelSpec) -> "Predictor":
    """Do as ``loaded.predictor_for``."""
    from unet_pipeline.inference import loaded

    return loaded.predictor_for(spec)


def within_memory(spec: ModelSpec, use: Callable[["Predictor"], _T]) -> _T:
    """Do as ``loaded.within_memory``."""
    from unet_pipeline.inference import loaded

    return loaded.within_memory(spec, use)


def importance_map(roi_size: Index3, blend: Blend) -> Scores:
    """Do as ``importance.importance_map``."""
    from unet_pipeline.inference import importance

    return importance.importance_map(roi_size, blend)


def choose(spec: ModelSpec, asked: EngineWish) -> EngineChoice:
    """Do as ``choice.choose``."""
    from unet_pipeline.inference import choice

    return choice.choose(spec, asked)
