"""Train a network from a cohort: discover, gate, load, fit, score, write the bundle."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from unet_pipeline.config import TrainSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.evaluation.metrics import mean_dice
from unet_pipeline.networks.bundle_writer import standard_preprocessing, write_bundle
from unet_pipeline.networks.family import network_def
from unet_pipeline.networks.registry import (
    build_network,
    check_window,
    network_contract,
    unetpp_def,
)
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import StorageOptions, Store
from unet_pipeline.training.card import CardFacts, TrainingNote, card_metadata, model_card
from unet_pipeline.training.cases import load_samples, median_spacing_mm, pass_gate
from unet_pipeline.training.crops import Sample
from unet_pipeline.training.fit import FitReport, OnStep, fit
from unet_pipeline.training.validate import Split, mean_per_label, split_cases, validate

OVERLAP = 0.5
_FEATURES = (16, 16, 32, 64, 128)


@dataclass(frozen=True)
class TrainReport:
    """What a training run did.

    Attributes
    ----------
    bundle
        URL of the bundle that was written.
    training, held_out
        Names of the cases trained on and of those kept aside.
    faults
        Cases left out, each with its error.
    dice
        Mean Dice per label over the held-out cases, in the model space; None where no held-out
        case has the label. Empty without held-out cases.
    losses
        Loss of each step.
    seconds
        Wall time of the optimiser loop.
    """

    bundle: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]
    faults: tuple[tuple[str, CaseError], ...]
    dice: Mapping[int, float | None]
    losses: tuple[float, ...]
    seconds: float

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels, or None without held-out cases."""
        return mean_dice(self.dice.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return {
            "bundle": self.bundle,
            "training": len(self.training),
            "held_out": list(self.held_out),
            "faults": [
                {"case": case, "code": e.code, "message": str(e)} for case, e in self.faults
            ],
            "dice": {str(label): value for label, value in self.dice.items()},
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class _Data:
    """The cohort in the model space."""

    samples: Mapping[str, Sample]
    split: Split
    spacing_mm: tuple[float, float, float]
    preprocessing: Sequence[dict[str, Any]]
    faults: tuple[tuple[str, CaseError], ...]

    def pick(self, names: Sequence[str]) -> list[Sample]:
        return [self.samples[name] for name in names]


def train(
    settings: TrainSettings, note: TrainingNote | None = None, on_step: OnStep | None = None
) -> TrainReport:
    """Train a network, score it on cases kept aside, and write it as a bundle.

    Parameters
    ----------
    note
        Texts of the model card that the data do not tell.
    on_step
        Called after each step with the number of steps done and the loss.

    Raises
    ------
    RequestError
        For storage, settings or a cohort that cannot be trained on; ``loss_not_finite``.
    """
    note = note or TrainingNote()
    store = Store(StorageOptions(**settings.storage.model_dump()))
    _check_window(settings)
    data = _gather(settings, store)
    network_def = _network_def(settings, data.samples)
    network = build_network(network_def, seed=settings.seed).to(_device())
    with _threads(settings.threads):
        hardware = _hardware()
        fitted = _fit(network, settings, data, on_step)
        dice = _held_out_dice(network, settings, data)
    report = TrainReport(
        bundle=settings.output,
        training=data.split.training,
        held_out=data.split.held_out,
        faults=data.faults,
        dice=dice,
        losses=fitted.losses,
        seconds=fitted.seconds,
    )
    facts = _facts(settings, note, data, network_def, report, hardware)
    write_bundle(
        settings.output,
        store,
        network=network,
        network_def=network_def,
        preprocessing=data.preprocessing,
        roi_size=settings.roi_size,
        overlap=OVERLAP,
        labels=facts.labels,
        channel_names=[f"channel {i}" for i in range(network_def["in_channels"])],
        model_card=model_card(note, facts),
        licence=note.licence,
        metadata=card_metadata(note, facts),
    )
    return report


def command_line(settings: TrainSettings, note: TrainingNote) -> str:
    """Return the command that repeats a training run."""
    options: dict[str, Any] = {
        "network": settings.network,
        "features": settings.features,
        "roi-size": settings.roi_size,
        "spacing": settings.spacing,
        "steps": settings.steps,
        "batch": settings.batch,
        "learning-rate": settings.learning_rate,
        "holdout": settings.holdout,
        "seed": settings.seed,
        "threads": settings.threads,
        "label-names": note.label_names or None,
        "output": settings.output,
    }
    words = [f"unet-pipeline train {shlex.quote(settings.images)} {shlex.quote(settings.masks)}"]
    for name, value in options.items():
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"--{name} {shlex.quote(text)}")
    return " \\\n    ".join(words)


def _gather(settings: TrainSettings, store: Store) -> _Data:
    """Find, gate and load the cases; one bad case is left out and never stops the others."""
    cohort = discover(store, settings.images, settings.masks or None)
    store.check_writable(settings.output)
    sound, at_fault = pass_gate(store, cohort.cases)
    faults = [*((case.name, error) for case, error in cohort.faults), *at_fault]
    _require(sound, faults)
    spacing_mm = settings.spacing or median_spacing_mm(item.grid for item in sound)
    preprocessing = standard_preprocessing(spacing_mm)
    loaded = dict(load_samples(store, [item.case for item in sound], preprocessing))
    samples = {name: found for name, found in loaded.items() if isinstance(found, Sample)}
    faults += [(name, found) for name, found in loaded.items() if isinstance(found, CaseError)]
    _require(samples, faults)
    split = split_cases(samples, settings.holdout, settings.seed)
    return _Data(samples, split, spacing_mm, preprocessing, tuple(faults))


def _network_def(settings: TrainSettings, samples: Mapping[str, Sample]) -> dict[str, Any]:
    labels = 1 + max(int(sample.labels_XYZ.max()) for sample in samples.values())
    channels = len(next(iter(samples.values())).image_CXYZ)
    return _describe(settings, channels, max(labels, 2))


def _describe(settings: TrainSettings, channels: int, labels: int) -> dict[str, Any]:
    """Return the ``network_def``; MONAI's own class where it has one, so that MONAI can run it."""
    features = settings.features or _FEATURES
    if settings.network == "unetpp" and len(features) in (5, 6):
        return unetpp_def(channels, labels, features)
    return network_def(settings.network, channels, labels, features)


def _fit(
    network: nn.Module, settings: TrainSettings, data: _Data, on_step: OnStep | None
) -> FitReport:
    return fit(
        network,
        data.pick(data.split.training),
        roi_size=settings.roi_size,
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        spacing_mm=data.spacing_mm,
        on_step=on_step,
    )


def _held_out_dice(
    network: nn.Module, settings: TrainSettings, data: _Data
) -> dict[int, float | None]:
    labels = 1 + max(int(sample.labels_XYZ.max()) for sample in data.samples.values())
    scores = validate(
        network,
        data.pick(data.split.held_out),
        roi_size=settings.roi_size,
        overlap=OVERLAP,
        labels=range(1, labels),
    )
    return mean_per_label(scores)


def _facts(
    settings: TrainSettings,
    note: TrainingNote,
    data: _Data,
    network_def: Mapping[str, Any],
    report: TrainReport,
    hardware: str,
) -> CardFacts:
    contract = network_contract(network_def)
    return CardFacts(
        command=command_line(settings, note),
        network=f"`{json.dumps(network_def)}`",
        preprocessing=[str(step["_target_"]) for step in data.preprocessing],
        roi_size=settings.roi_size,
        spacing_mm=data.spacing_mm,
        steps=settings.steps,
        batch=settings.batch,
        training=report.training,
        held_out=report.held_out,
        left_out=[name for name, _ in report.faults],
        labels=note.labels(contract.out_channels),
        dice=report.dice,
        final_loss=float(np.mean(report.losses[-max(1, settings.steps // 10) :])),
        seconds=report.seconds,
        hardware=hardware,
    )


def _check_window(settings: TrainSettings) -> None:
    check_window(_describe(settings, 1, 2), settings.roi_size)


def _require(cases: Sized, faults: Sequence[tuple[str, CaseError]]) -> None:
    if not cases:
        codes = ", ".join(sorted({error.code for _, error in faults}))
        raise RequestError(
            "no_training_cases",
            found=f"no sound case; {len(faults)} at fault ({codes})",
            wanted="at least one image with a mask on its grid",
            remedy="Run unet-pipeline check on the images and masks",
        )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _hardware() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    count = torch.get_num_threads()
    return f"{count} CPU thread{'s' if count > 1 else ''}"


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
