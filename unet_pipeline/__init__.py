"""Segment archives of medical volumes with U-Net and UNet++ on a Dask cluster.

``import unet_pipeline as up``: ``up.segment``, ``up.check``, ``up.plan``, ``up.statistics``,
``up.train``, ``up.tidy``, ``up.load_bundle``, ``up.plan_windows`` and ``up.Merge``; see
docs/python.md. Nothing is imported before one of them is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_pipeline.api.calls import check as check
    from unet_pipeline.api.calls import load_bundle as load_bundle
    from unet_pipeline.api.calls import load_network as load_network
    from unet_pipeline.api.calls import plan as plan
    from unet_pipeline.api.calls import segment as segment
    from unet_pipeline.api.calls import statistics as statistics
    from unet_pipeline.api.calls import tidy as tidy
    from unet_pipeline.api.calls import train as train
    from unet_pipeline.api.results import Checked as Checked
    from unet_pipeline.api.results import LabelMap as LabelMap
    from unet_pipeline.api.results import Measured as Measured
    from unet_pipeline.api.results import Planned as Planned
    from unet_pipeline.api.results import Segmented as Segmented
    from unet_pipeline.api.windows import Merge as Merge
    from unet_pipeline.api.windows import Window as Window
    from unet_pipeline.api.windows import Windows as Windows
    from unet_pipeline.api.windows import plan_windows as plan_windows

__version__ = "0.1.0"
_HOMES = {
    **dict.fromkeys(("segment", "check", "plan", "statistics", "tidy", "train"), "calls"),
    **dict.fromkeys(("load_bundle", "load_network"), "calls"),
    **dict.fromkeys(("Segmented", "Checked", "Measured", "Planned", "LabelMap"), "results"),
    **dict.fromkeys(("plan_windows", "Windows", "Window", "Merge"), "windows"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unet_pipeline' has no attribute {name!r}")
    return getattr(import_module(f"unet_pipeline.api.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
