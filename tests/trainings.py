"""A training from settings to its report, in one call."""

from typing import Any

from unet_pipeline.config import TrainSettings
from unet_pipeline.jobs.train import open_train, run_train
from unet_pipeline.training.report import TrainReport


def train(settings: TrainSettings, *watched: Any, **more: Any) -> TrainReport:
    return run_train(open_train(settings), *watched, **more)
