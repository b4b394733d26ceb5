"""Settings of a request: the one place where outside values are described and checked (pydantic).

Options of the command line, keys of a settings file, variables and the Prefect run form come from
these models: one description each, one default, one range. Inside the package plain values go on.
"""

from unet_pipeline.config.bundles import (
    CalibrateSettings,
    ConfidenceSettings,
    ConvertSettings,
    InspectSettings,
    MakeSettings,
    PruneSettings,
)
from unet_pipeline.config.cohorts import CheckSettings, PlanSettings, SegmentSettings
from unet_pipeline.config.evaluation import (
    CompareSettings,
    DepthsSettings,
    DifferencesSettings,
    LayersSettings,
    ScoringSettings,
    StatisticsSettings,
    ViewSettings,
)
from unet_pipeline.config.fields import Settings, Voxels
from unet_pipeline.config.parts import (
    AccessSettings,
    Budget,
    ClusterSettings,
    CostSettings,
    GateSettings,
    Limits,
    RemedySettings,
    StorageSettings,
    WindowSettings,
)
from unet_pipeline.config.stops import StopSettings
from unet_pipeline.config.tidying import TidySettings
from unet_pipeline.config.training import (
    CardSettings,
    LossSettings,
    OptimiserSettings,
    TrainSettings,
    ValidationSettings,
)

COMMANDS: dict[str, type[Settings]] = {
    "segment": SegmentSettings,
    "plan": PlanSettings,
    "check": CheckSettings,
    "train": TrainSettings,
    "depths": DepthsSettings,
    "compare": CompareSettings,
    "layers": LayersSettings,
    "differences": DifferencesSettings,
    "view": ViewSettings,
    "statistics": StatisticsSettings,
    "tidy": TidySettings,
    "bundle inspect": InspectSettings,
    "bundle verify": InspectSettings,
    "bundle make": MakeSettings,
    "bundle convert": ConvertSettings,
    "bundle prune": PruneSettings,
    "bundle calibrate": CalibrateSettings,
    "bundle confidence": ConfidenceSettings,
}

__all__ = [
    "COMMANDS",
    "AccessSettings",
    "Budget",
    "CalibrateSettings",
    "CardSettings",
    "CheckSettings",
    "ClusterSettings",
    "CompareSettings",
    "ConfidenceSettings",
    "ConvertSettings",
    "CostSettings",
    "DepthsSettings",
    "DifferencesSettings",
    "GateSettings",
    "InspectSettings",
    "LayersSettings",
    "Limits",
    "LossSettings",
    "MakeSettings",
    "OptimiserSettings",
    "PlanSettings",
    "PruneSettings",
    "RemedySettings",
    "ScoringSettings",
    "SegmentSettings",
    "Settings",
    "StatisticsSettings",
    "StopSettings",
    "StorageSettings",
    "TidySettings",
    "TrainSettings",
    "ValidationSettings",
    "ViewSettings",
    "Voxels",
    "WindowSettings",
]
