"""The optimiser loop: crops, a step, now and then a validation and a checkpoint."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unet_pipeline.errors import RequestError
from unet_pipeline.records import json_text
from unet_pipeline.training.checkpoint import Checkpoints
from unet_pipeline.training.crops import ROI, CropSource, Sample
from unet_pipeline.training.history import Dice, History, Validation
from unet_pipeline.training.losses import deep_loss, heads_of
from unet_pipeline.training.recipe import LARGEST_GRADIENT, Recipe, compute_type

OnStep = Callable[[int, float], None]
OnHistory = Callable[[History], None]


@dataclass(frozen=True)
class Callbacks:
    """What is called while a network is trained; any of them may be missing.

    Attributes
    ----------
    validate
        Returns the mean Dice per label of the network as it is.
    checkpoints
        Where to go on from, and where to write.
    on_step
        Called after each step with the number of steps done and the loss.
    on_history
        Called with what was seen so far: when training begins or goes on, and before each
        checkpoint.
    """

    validate: Callable[[], Dice] | None = None
    checkpoints: Checkpoints | None = None
    on_step: OnStep | None = None
    on_history: OnHistory | None = None


def fit(
    network: nn.Module,
    samples: Sequence[Sample],
    recipe: Recipe,
    callbacks: Callbacks | None = None,
) -> History:
    """Train ``network`` in place on random crops of ``samples``, on the device where it lies.

    At the end it has the weights of its best validation, or the last ones without any.

    Parameters
    ----------
    network
        Returns scores (B, C, X, Y, Z) with C >= 2, or a list of them, shallow to deep.
    samples
        Cases in the model space.

    Raises
    ------
    RequestError
        ``no_training_cases`` without samples; ``loss_not_finite`` when training diverges, if only
        at its last step.
    """
    if not samples:
        raise _no_samples()
    callbacks = callbacks or Callbacks()
    sources = [CropSource(sample) for sample in samples]
    trainer = Trainer(network, recipe)
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(recipe.seed)
        kept = callbacks.checkpoints.load() if callbacks.checkpoints else None
        if kept is not None:
            trainer.restore(kept)
        _notify(callbacks.on_history, trainer.history)
        while not trainer.is_over:
            loss = trainer.step(sources)
            if callbacks.on_step:
                callbacks.on_step(trainer.done, loss)
            if callbacks.validate and recipe.is_validated_after(trainer.done):
                trainer.validate(callbacks.validate)
            if recipe.is_kept_after(trainer.done) or trainer.is_over:
                _notify(callbacks.on_history, trainer.history)
                if callbacks.checkpoints:
                    callbacks.checkpoints.save(trainer.state())
    trainer.take_best()
    trainer.check_scores(sources)
    return trainer.history


class Trainer:
    """A training between two steps; its state is all that the next step depends on."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self.network, self.recipe = network, recipe
        self.device = next(network.parameters()).device
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.rng = np.random.default_rng(recipe.seed)
        self.optimiser = recipe.make_optimiser(network.parameters())
        self.criterion = recipe.loss.criterion().to(self.device)
        self.dtype = compute_type(recipe.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if self.device.type == "cuda":
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.history.losses)

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or patience has run out."""
        patience = self.recipe.patience
        tired = patience is not None and self.history.since_better >= patience
        return self.done >= self.recipe.steps or tired

    def step(self, sources: Sequence[CropSource]) -> float:
        """Take one step and return its loss."""
        begin = time.perf_counter()
        recipe, rate = self.recipe, self.recipe.rate(self.done)
        self.network.train()
        images, labels = self._batch(sources)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            heads = heads_of(self.network(images))
        loss = deep_loss(heads, labels, self.criterion, recipe.loss.weights_of(len(heads)))
        value = _finite(loss, self.done + 1, rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.history.losses.append(value)
        self.history.rates.append(rate)
        self.history.seconds += time.perf_counter() - begin
        return value

    def validate(self, score: Callable[[], Dice]) -> None:
        """Add a validation to the history, and keep the weights if it is the best."""
        begin = time.perf_counter()
        dice = score()
        seconds = time.perf_counter() - begin
        self.history.validations.append(Validation(self.done, dice, seconds))
        if self.history.best is self.history.validations[-1]:
            self.best = {k: v.cpu().clone() for k, v in self.network.state_dict().items()}

    def take_best(self) -> None:
        """Give the network the weights of its best validation."""
        if self.best is not None:
            self.network.load_state_dict(self.best)
        self.network.eval()

    def check_scores(self, sources: Sequence[CropSource]) -> None:
        """Refuse weights with which no volume could be segmented, on a crop of the first case.

        Every loss is that of the weights before its step, so none tells of the last step.
        """
        crop = sources[0].draw(self.recipe.roi_size, np.random.default_rng(self.recipe.seed))
        image = torch.from_numpy(crop.image_CXYZ)[None].to(self.device)
        with torch.inference_mode():
            scores = heads_of(self.network(image))[-1]
        tensors = (scores, *self.network.state_dict().values())
        if not all(bool(one.isfinite().all()) for one in tensors):
            raise _diverged(
                "weights or scores that are NaN or infinite", self.done, self.history.rates[-1]
            )

    def state(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        on_cuda = self.device.type == "cuda"
        return {
            "network": self.network.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": json_text(self.history.as_dict()),
            "numpy": json_text(self.rng.bit_generator.state),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if on_cuda else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; the next step is then the one that would have followed."""
        self.network.load_state_dict(state["network"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = History.of(json.loads(state["history"]))
        self.rng.bit_generator.state = json.loads(state["numpy"])
        torch.set_rng_state(state["torch"])
        if self.device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def _batch(self, sources: Sequence[CropSource]) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        images, labels = draw_batch(sources, recipe.roi_size, recipe.batch, self.rng)
        images, labels = images.to(self.device), labels.to(self.device)
        images, labels = recipe.augmentation(images, labels, recipe.spacing_mm, self.rng)
        if self.device.type == "cuda":
            images = images.contiguous(memory_format=torch.channels_last_3d)
        return images, labels


def draw_batch(
    sources: Sequence[CropSource], roi_size: ROI, batch: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``batch`` crops of different cases: images (B, C, X, Y, Z), labels (B, X, Y, Z)."""
    chosen = rng.choice(len(sources), size=batch, replace=batch > len(sources))
    crops = [sources[index].draw(roi_size, rng) for index in chosen]
    images_BCXYZ = np.stack([crop.image_CXYZ for crop in crops])
    labels_BXYZ = np.stack([crop.labels_XYZ.astype(np.int64) for crop in crops])
    return torch.from_numpy(images_BCXYZ), torch.from_numpy(labels_BXYZ)


def _notify(listener: OnHistory | None, history: History) -> None:
    if listener:
        listener(history)


def _finite(loss: Tensor, step: int, learning_rate: float) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise _diverged(f"a loss of {value}", step, learning_rate)
    return value


def _diverged(what: str, step: int, learning_rate: float) -> RequestError:
    return RequestError(
        "loss_not_finite",
        found=f"{what} at step {step} with learning rate {learning_rate:g}",
        wanted="finite numbers",
        remedy="Lower the learning rate, and look for NaN or infinite voxels in the images",
    )


def _no_samples() -> RequestError:
    return RequestError(
        "no_training_cases",
        found="no case with an image and a mask to train on",
        wanted="at least one",
        remedy="Check the image and mask prefixes, and that the gate passes some of the cases",
    )
