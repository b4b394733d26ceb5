"""Settings of a request: the one place where outside values are checked (pydantic).

The command line and the Prefect run form fill the same objects, so a description written here is
the help text in both. Inside the package nothing knows these classes; it is given plain values.
"""

from unet_pipeline.config.cohorts import CheckSettings, SegmentSettings
from unet_pipeline.config.parts import (
    Budget,
    ClusterSettings,
    CostSettings,
    GateSettings,
    Limits,
    NetworkName,
    StorageSettings,
    Voxels,
    WindowSettings,
)
from unet_pipeline.config.questions import (
    CompareSettings,
    DepthsSettings,
    LayersSettings,
    ScoringSettings,
)
from unet_pipeline.config.training import (
    CardSettings,
    LossSettings,
    OptimiserSettings,
    TrainSettings,
    ValidationSettings,
)

__all__ = [
    "Budget",
    "CardSettings",
    "CheckSettings",
    "ClusterSettings",
    "CompareSettings",
    "CostSettings",
    "DepthsSettings",
    "GateSettings",
    "LayersSettings",
    "Limits",
    "LossSettings",
    "NetworkName",
    "OptimiserSettings",
    "ScoringSettings",
    "SegmentSettings",
    "StorageSettings",
    "TrainSettings",
    "ValidationSettings",
    "Voxels",
    "WindowSettings",
]
