"""Training as a Prefect flow: its curves on the run's page while it runs, a bundle at the end.

A run that was killed is gone on with by starting it again with the same settings.
"""

from typing import TYPE_CHECKING, Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from unet_pipeline.config import TrainSettings
from unet_pipeline.config.form import AsForm
from unet_pipeline.processes import lasting_imports
from unet_pipeline.report.table import as_code
from unet_pipeline.texts import shown
from unet_pipeline.training.card import named_labels
from unet_pipeline.training.history import History
from unet_pipeline_flows.away import await_server, is_there
from unet_pipeline_flows.lifecycle import End, completed, run_by_hand, run_checked
from unet_pipeline_flows.links import show_picture
from unet_pipeline_flows.page import Bar

if TYPE_CHECKING:  # imports torch
    from unet_pipeline.training.report import TrainReport


@flow(
    name="train",
    description="Train a network on image and mask pairs, and write it as a bundle.",
    validate_parameters=False,  # lifecycle.run_checked does, and says it in one sentence
    persist_result=False,
)
def train(settings: Annotated[TrainSettings, AsForm(TrainSettings)]) -> End:
    """Train, show how it goes, and report."""
    return run_checked(settings, _train, TrainSettings)


def _train(settings: TrainSettings) -> End:
    with lasting_imports():  # of networks, too
        from unet_pipeline.jobs.train import open_train, run_train

    run = open_train(settings)
    bar, curves = Bar(settings.steps, "Training", unit="steps"), _Curves(settings)
    report = run_train(run, lambda done, _loss: bar.move_to(done), curves.so_far)
    _publish(report)
    return completed(_outcome(report), report.as_dict(), faults=bool(report.faults))


class _Curves:
    """The curves on the run's page: once there are any, and again after each validation."""

    def __init__(self, settings: TrainSettings) -> None:
        self.steps, self.card, self.validations = settings.steps, settings.card, 0

    def so_far(self, history: History) -> None:
        """Show them, if there is something new."""
        from unet_pipeline.training.training_log import curves_of

        over = len(history.losses) == self.steps
        if not history.losses or (len(history.validations) == self.validations and not over):
            return
        if over:
            await_server()
        elif not is_there():  # it will see the next ones
            return
        self.validations = len(history.validations)
        labels = [label for one in history.validations for label in one.dice]
        names = named_labels(self.card, 1 + max(labels, default=0))
        text = f"Loss and Dice after {len(history.losses)} steps"
        show_picture(curves_of(history, names), "curves", text)


def _publish(report: "TrainReport") -> None:
    await_server()
    rows = [
        {"label": label, "name": shown(report.names.get(label, "")), **one.as_dict()}
        for label, one in report.spread.items()
    ]
    if rows:
        text = f"Dice on {len(report.held_out)} cases kept aside"
        create_table_artifact(table=rows, key="dice", description=text)
    create_markdown_artifact(_headline(report), key="summary")


def _headline(report: "TrainReport") -> str:
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


def _outcome(report: "TrainReport") -> str:
    if report.mean_dice is None:
        return "Trained; no case was kept aside"
    return f"mean Dice {report.mean_dice:.3f} on {len(report.held_out)} cases kept aside"


if __name__ == "__main__":  # python -m unet_pipeline_flows.train SETTINGS.json
    run_by_hand(train, TrainSettings)
