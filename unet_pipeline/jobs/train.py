"""Train a network from a cohort: gather, check, fit, score, write the bundle."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from unet_pipeline.config import TrainSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.calibration import calibrate
from unet_pipeline.evaluation.prediction import LabelCurve
from unet_pipeline.networks.bundle_writer import BUNDLE_FILES, write_bundle
from unet_pipeline.networks.registry import check_window
from unet_pipeline.records import json_text
from unet_pipeline.request import open_store
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.outage import under_way, with_retries
from unet_pipeline.storage.store import Store, join
from unet_pipeline.training.array_cache import open_array_cache
from unet_pipeline.training.card import (
    CardFacts,
    card_metadata,
    check_names,
    model_card,
    named_labels,
)
from unet_pipeline.training.checkpoint import FOLDER, NAME
from unet_pipeline.training.data import TrainingData, gather
from unet_pipeline.training.fit import Callbacks, OnHistory, OnStep, fit
from unet_pipeline.training.history import History, mean_per_label, spread_per_label
from unet_pipeline.training.report import TrainReport
from unet_pipeline.training.training_log import CURVES, HISTORY, TrainingLog
from unet_pipeline.training.training_setup import OVERLAP, TrainingSetup, data_request_of, describe


@dataclass(frozen=True)
class TrainRun:
    """A checked request for a training."""

    settings: TrainSettings
    store: Store


def open_train(settings: TrainSettings) -> TrainRun:
    """Check everything about a request that can be checked before the cohort is read.

    Raises
    ------
    RequestError
        For storage that cannot be reached or written, and a window that the network cannot take.
    """
    store = open_store(settings.storage)
    check_window(describe(settings, 1, 2), settings.roi_size)
    store.check_writable(settings.output)
    OwnFiles(store, settings.output).check(BUNDLE_FILES)
    OwnFiles(store, join(settings.output, FOLDER)).check((CURVES, HISTORY, NAME))
    return TrainRun(settings, store)


def run_train(
    run: TrainRun, on_step: OnStep | None = None, on_history: OnHistory | None = None
) -> TrainReport:
    """Train a network, score it on cases kept aside, and write it as a bundle.

    A training that was stopped goes on from its last checkpoint below ``output``.

    Parameters
    ----------
    on_step
        Called after each step with the number of steps done and the loss.
    on_history
        Called with what was seen so far, at the beginning and at each checkpoint.

    Raises
    ------
    RequestError
        For a cohort that cannot be trained on; for labels, loss and channels
        that do not fit each other; ``checkpoint_other``; ``loss_not_finite``, after which nothing
        is left of the training.
    RunStopped
        For a fault of the store once the cohort is listed; the last checkpoint stays.
    """
    settings = run.settings
    with _threads(settings.threads), open_array_cache(1e9 * settings.memory_gb) as cache:
        data = gather(run.store, data_request_of(settings), cache)
        with under_way():
            return _train(run, data, on_step, on_history)


def _train(
    run: TrainRun, data: TrainingData, on_step: OnStep | None, on_history: OnHistory | None
) -> TrainReport:
    settings, store = run.settings, run.store
    check_names(settings.card, data.classes)
    setup = TrainingSetup.of(settings, store, data)
    setup.check()
    training_log = TrainingLog(store, settings.output, named_labels(settings.card, data.classes))
    history = _fit(setup, training_log, on_step, on_history)
    scored = setup.validate_with_confidence()
    spread = spread_per_label([dice for dice, _ in scored])
    report = TrainReport(
        settings.output,
        data.split.training,
        data.split.held_out,
        data.faults,
        spread,
        history,
        training_log.curves_url,
        named_labels(settings.card, data.classes),
    )
    curves = calibrate(
        (sure, {str(label): value for label, value in dice.items()}) for dice, sure in scored
    )
    with_retries(lambda: _write(setup, report, curves))
    setup.checkpoints.remove()
    return report


def _fit(
    setup: TrainingSetup,
    training_log: TrainingLog,
    on_step: OnStep | None,
    on_history: OnHistory | None,
) -> History:
    checkpoints = setup.checkpoints
    if not setup.settings.resume:
        checkpoints.remove()
    callbacks = Callbacks(
        (lambda: mean_per_label(setup.validate())) if setup.data.held_out else None,
        checkpoints,
        on_step,
        _both(training_log.write, on_history),
    )
    try:
        return fit(setup.network, setup.data.training, setup.recipe, callbacks)
    except RequestError as error:
        if error.code == "loss_not_finite":  # going on from the checkpoint would end here again
            checkpoints.remove()
            training_log.remove()
        raise


def _write(setup: TrainingSetup, report: TrainReport, curves: Mapping[str, LabelCurve]) -> None:
    facts = _facts(setup, report)
    write_bundle(
        report.bundle,
        setup.store,
        network=setup.network,
        network_def=setup.definition,
        preprocessing=setup.data.preprocessing,
        roi_size=setup.recipe.roi_size,
        overlap=OVERLAP,
        labels=facts.labels,
        channel_names=[f"channel {i}" for i in range(setup.data.channels)],
        model_card=model_card(facts),
        licence=setup.settings.card.licence,
        metadata=card_metadata(facts),
        dice_curves=curves,
        dice_cases=report.held_out,
    )


def _facts(setup: TrainingSetup, report: TrainReport) -> CardFacts:
    data, recipe, best = setup.data, setup.recipe, report.history.best
    return CardFacts(
        settings=setup.settings,
        network=f"`{json_text(setup.definition)}`",
        preprocessing=[str(step["_target_"]) for step in data.preprocessing],
        roi_size=recipe.roi_size,
        spacing_mm=data.spacing_mm,
        steps=len(report.history.losses),
        best_step=best.step if best else None,
        batch=recipe.batch,
        split=data.split.how,
        data_digest=data.digest,
        training=report.training,
        held_out=report.held_out,
        left_out=[name for name, _ in report.faults],
        labels=named_labels(setup.settings.card, data.classes),
        dice=report.spread,
        final_loss=report.history.final_loss,
        seconds=report.history.seconds,
        hardware=_hardware(setup.settings.threads),
    )


def _both(first: OnHistory, second: OnHistory | None) -> Callable[[History], None]:
    def tell(history: History) -> None:
        first(history)
        if second:
            second(history)

    return tell


def _hardware(threads: int | None) -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    count = threads or os.cpu_count() or 1
    return f"{count} CPU thread{'s' if count > 1 else ''}"


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
