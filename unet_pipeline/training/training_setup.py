"""From settings and data to a network on its device, ready to be trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unet_pipeline.config import Limits, TrainSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.model import policy_of
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.family import network_def, unetpp_def
from unet_pipeline.networks.registry import build_network, check_smallest_window
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.store import Store
from unet_pipeline.training.augment import augmentation_named
from unet_pipeline.training.checkpoint import Checkpoints
from unet_pipeline.training.data import DataRequest, TrainingData
from unet_pipeline.training.history import Dice
from unet_pipeline.training.losses import Loss, check_loss, check_network, with_class_weights
from unet_pipeline.training.recipe import Recipe
from unet_pipeline.training.validate import Validated, validate, validate_with_confidence

OVERLAP = 0.5
_FEATURES = (16, 16, 32, 64, 128)
_NOT_OF_THE_WEIGHTS = {"images", "masks", "output", "resume", "threads", "memory_gb"}
_NOT_OF_THE_WEIGHTS |= {"max_volume_gb", "max_windows", "storage", "card"}


@dataclass(frozen=True)
class TrainingSetup:
    """A network on its device, and all that its training needs.

    Attributes
    ----------
    definition
        The ``network_def`` that the network was built from.
    """

    settings: TrainSettings
    store: Store
    data: TrainingData
    definition: dict[str, Any]
    network: nn.Module
    recipe: Recipe

    @classmethod
    def of(cls, settings: TrainSettings, store: Store, data: TrainingData) -> "TrainingSetup":
        """Build the network and settle how it is trained; the loss must fit the classes."""
        definition = describe(settings, data.channels, data.classes)
        loss = Loss(**settings.loss.model_dump())
        check_loss(loss, data.classes)
        masks = (sample.labels_XYZ for sample in data.training)
        recipe = _recipe(settings, data, with_class_weights(loss, masks, data.classes))
        network = build_network(definition, seed=settings.seed).to(_device())
        return cls(settings, store, data, definition, network, recipe)

    @property
    def checkpoints(self) -> Checkpoints:
        """Where the state of this training is kept, and what it must agree with."""
        settings = self.settings.model_dump(mode="json", exclude=_NOT_OF_THE_WEIGHTS)
        split = self.data.split
        parts = digest_json([split.training, split.held_out])  # a manifest may have been changed
        identity = {**settings, "data": self.data.digest, "split": parts}
        return Checkpoints(self.store, self.settings.output, identity)

    def check(self) -> None:
        """Hold labels, loss, channels and window against each other, before the first step."""
        roi_size, loss = self.recipe.roi_size, self.recipe.loss
        check_smallest_window(self.definition, roi_size)
        check_network(self.network, loss, self.data.classes, self.data.channels, roi_size)

    def validate(self) -> list[Dice]:
        """Return the Dice of each case kept aside, with the weights as they are."""
        with self._predictor() as predictor:
            return list(validate(predictor, self.data.held_out, OVERLAP))

    def validate_with_confidence(self) -> list[Validated]:
        """Return the same, with how sure the network is of each label."""
        with self._predictor() as predictor:
            return validate_with_confidence(predictor, self.data.held_out, OVERLAP)

    @contextmanager
    def _predictor(self) -> Iterator[Predictor]:
        """Give the network as ``segment`` would run it."""
        spec = ModelSpec(
            self._bundle(), self.store, self.recipe.roi_size, threads=self.settings.threads
        )
        try:
            yield Predictor(spec, self.network)
        except CaseError as error:
            raise RequestError(
                "loss_not_finite",
                found=f"weights that give {error.found}",
                wanted="finite scores",
                remedy="Lower the learning rate",
            ) from error

    def _bundle(self) -> Bundle:
        """Return what the network will be part of."""
        return Bundle(
            name=self.settings.output,
            url=self.settings.output,
            network_def=self.definition,
            preprocessing=tuple(self.data.preprocessing),
            roi_size=self.recipe.roi_size,
            overlap=OVERLAP,
            blend="gaussian",
            labels={index: str(index) for index in range(self.data.classes)},
            in_channels=self.data.channels,
            out_channels=self.data.classes,
            weights_digest="",
            config_digest="",
            weights_file="",
        )


def data_request_of(settings: TrainSettings) -> DataRequest:
    """Return what settings ask of a cohort."""
    limits = settings.model_dump(include={"max_volume_gb", "max_windows"})
    return DataRequest(
        settings.images,
        settings.masks or None,
        settings.mask_pattern,
        policy_of(settings.gate, Limits(**limits)),
        settings.roi_size,
        OVERLAP,
        settings.max_windows,
        settings.spacing,
        settings.classes,
        settings.holdout,
        settings.seed,
        settings.fold,
        settings.card.label_names,
    )


def _recipe(settings: TrainSettings, data: TrainingData, loss: Loss) -> Recipe:
    optimiser, validation = settings.optimiser, settings.validation
    axes = tuple("xyz".index(axis) for axis in sorted(set(settings.flip or "") - {","}))
    return Recipe(
        roi_size=settings.roi_size,
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=optimiser.learning_rate,
        weight_decay=optimiser.weight_decay,
        optimiser=optimiser.name,
        schedule=optimiser.schedule,
        seed=settings.seed,
        spacing_mm=data.spacing_mm,
        augmentation=augmentation_named(settings.augmentation, axes),
        precision=optimiser.precision,
        loss=loss,
        validate_every=validation.every,
        patience=validation.patience,
        checkpoint_every=settings.checkpoint_every,
    )


def describe(settings: TrainSettings, channels: int, classes: int) -> dict[str, Any]:
    """Return the ``network_def``; MONAI's own class where it has one, so that MONAI can run it."""
    features = settings.features or _FEATURES
    options: dict[str, Any] = {}
    if settings.upsample != "deconv":
        options["upsample"] = settings.upsample
    if settings.attention:
        options["attention"] = True
    if options and settings.network == "unet":
        raise RequestError(
            "network_option_unknown",
            found=f"{' and '.join(options)} for the network unet",
            wanted="a network with that option: unetpp, unetplus, unete or asymmetric",
            remedy="Choose one of these, or leave the option out",
        )
    if settings.network == "unetpp" and len(features) in (5, 6) and not options:
        return unetpp_def(channels, classes, features)
    return network_def(settings.network, channels, classes, features, **options)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
