"""Training as a Prefect flow: its curves on the run's page while it runs, a bundle at the end.

A run that was killed is gone on with by starting it again with the same settings.
"""

import base64
import logging
from typing import Any, cast
from uuid import UUID

from prefect import flow
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State
from prefect.states import Completed

from unet_pipeline.config import CardSettings, TrainSettings
from unet_pipeline.errors import PipelineError
from unet_pipeline.jobs.train import open_train, run_train
from unet_pipeline.report.table import as_code
from unet_pipeline.training.card import TrainingNote
from unet_pipeline.training.history import History
from unet_pipeline.training.report import TrainReport
from unet_pipeline.training.trail import curves_of
from unet_pipeline_flows.requests import check_request, failed, link_to, run_by_hand

NO_CARD = CardSettings()


@flow(
    name="train-model",
    description="Train a network on image and mask pairs, and write it as a bundle.",
    validate_parameters=True,
    persist_result=False,
)
def train_model(settings: TrainSettings, card: CardSettings = NO_CARD) -> State[dict[str, Any]]:
    """Train, show how it goes, and report."""
    logging.getLogger("unet_pipeline").setLevel(logging.INFO)
    try:
        check_request(settings)
        page = _Page(settings.steps, TrainingNote(**card.model_dump()))
        report = run_train(open_train(settings, page.note), page.after_step, page.so_far)
    except PipelineError as error:
        return failed(error)
    _publish(report)
    return _state(report)


class _Page:
    """What the run's page shows while the network is trained."""

    def __init__(self, steps: int, note: TrainingNote) -> None:
        self.steps, self.note = steps, note
        self.progress = cast(UUID, create_progress_artifact(0.0, description="Steps of training"))
        self.percent = self.validations = 0

    def after_step(self, done: int, _loss: float) -> None:
        """Move the bar, a percent at a time."""
        percent = 100 * done // self.steps
        if percent > self.percent:
            update_progress_artifact(self.progress, progress=percent)
            self.percent = percent

    def so_far(self, history: History) -> None:
        """Show the curves: once there are any, and again after each validation."""
        over = len(history.losses) == self.steps
        if not history.losses or (len(history.validations) == self.validations and not over):
            return
        self.validations = len(history.validations)
        labels = [label for one in history.validations for label in one.dice]
        names = self.note.labels(1 + max(labels, default=0))
        picture = base64.b64encode(curves_of(history, names)).decode()
        create_image_artifact(
            f"data:image/png;base64,{picture}",
            key="curves",
            description=f"Loss and Dice after {len(history.losses)} steps",
        )


def _publish(report: TrainReport) -> None:
    rows = [{"label": label, **one.as_dict()} for label, one in report.spread.items()]
    if rows:
        text = f"Dice on {len(report.held_out)} cases kept aside"
        create_table_artifact(table=rows, key="dice", description=text)
    create_markdown_artifact(_headline(report), key="summary")
    bundle = report.bundle
    create_link_artifact(link_to(bundle), link_text="The bundle", key="bundle")


def _headline(report: TrainReport) -> str:
    best = report.history.best
    lines = [
        f"# {_outcome(report)}",
        f"{len(report.history.losses)} steps on {len(report.training)} cases in "
        f"{report.seconds:.0f} s" + (f"; the best weights were those after {best.step}." if best
        else "."),
        f"Bundle: {as_code(report.bundle)}",
    ]  # fmt: skip
    lines += [f"Left out: {as_code(case)} ({error.code})" for case, error in report.faults]
    return "\n\n".join([*lines, ""])


def _outcome(report: TrainReport) -> str:
    if report.mean_dice is None:
        return "Trained; no case was kept aside"
    return f"mean Dice {report.mean_dice:.3f} on {len(report.held_out)} cases kept aside"


def _state(report: TrainReport) -> State[dict[str, Any]]:
    """Return a completed state; its name says if cases were left out."""
    name = "CompletedWithFaults" if report.faults else "Completed"
    return Completed(name=name, message=_outcome(report), data=report.as_dict())


if __name__ == "__main__":  # python -m unet_pipeline_flows.train_model SETTINGS.json
    run_by_hand(train_model, TrainSettings)
