"""How a network is trained, in plain values: crops, optimiser, schedule, precision."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from unet_pipeline.caches import compilers_keep_to_it
from unet_pipeline.choices import OptimiserName, Precision, Schedule
from unet_pipeline.training.augment import Augmentation
from unet_pipeline.training.crops import ROI
from unet_pipeline.training.losses import Loss

RATES = {"adamw": 1e-3, "sgd": 1e-2}
DECAYS = {"adamw": 1e-2, "sgd": 3e-5}
LARGEST_GRADIENT = 12.0  # norm over all parameters; longer gradients are cut to it
_MOMENTUM = 0.99
_WARM_UP = 0.05  # share of the steps
_POLY_EXPONENT = 0.9


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    roi_size
        Crop in voxels; divisible by the network's stride.
    steps, batch
        Optimiser steps, and crops per step.
    learning_rate, weight_decay
        Peak of the schedule, and decay; None for what is usual for the optimiser.
    optimiser
        ``adamw`` or ``sgd`` (Nesterov momentum of 0.99, as nnU-Net's).
    schedule
        After a linear warm-up over a twentieth of the steps: half a ``cosine``, ``poly`` (the share
        of steps left to the power of 0.9) or ``constant``.
    seed
        Seed of crops, augmentation and dropout; the weights are the caller's.
    spacing_mm
        Model spacing, so that rotations are rotations.
    precision
        ``auto``: mixed precision on CUDA (bfloat16 where the device has it), float32 on a CPU.
    validate_every
        Steps between validations; None for a tenth of all.
    patience
        Validations without a better Dice before training stops; None for never.
    checkpoint_every
        Steps between checkpoints.
    """

    roi_size: ROI
    steps: int
    batch: int = 2
    learning_rate: float | None = None
    weight_decay: float | None = None
    optimiser: OptimiserName = "adamw"
    schedule: Schedule = "cosine"
    seed: int = 0
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Precision = "auto"
    loss: Loss = field(default_factory=Loss)
    validate_every: int | None = None
    patience: int | None = None
    checkpoint_every: int = 100

    @property
    def peak_rate(self) -> float:
        """Peak learning rate."""
        return self.learning_rate or RATES[self.optimiser]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0; it depends on nothing else."""
        return self.peak_rate * rate_factor(step, self.steps, self.schedule)

    def make_optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of these parameters."""
        compilers_keep_to_it()  # an optimiser imports them
        decay = DECAYS[self.optimiser] if self.weight_decay is None else self.weight_decay
        if self.optimiser == "adamw":
            return torch.optim.AdamW(parameters, lr=self.peak_rate, weight_decay=decay, fused=True)
        return torch.optim.SGD(
            parameters,
            lr=self.peak_rate,
            momentum=_MOMENTUM,
            nesterov=True,
            weight_decay=decay,
            fused=True,
        )

    def is_validated_after(self, done: int) -> bool:
        """Say whether to validate after so many steps: at every n-th, and at the last."""
        every = self.validate_every or max(1, self.steps // 10)
        return done == self.steps or done % every == 0

    def is_kept_after(self, done: int) -> bool:
        """Say whether to write a checkpoint after so many steps."""
        return done == self.steps or done % self.checkpoint_every == 0


def rate_factor(step: int, steps: int, schedule: Schedule = "cosine") -> float:
    """Return the share of the peak learning rate at ``step``, from 0."""
    warm_up = max(1, round(_WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    gone = (step - warm_up) / max(1, steps - warm_up)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * gone))
    return (1 - gone) ** _POLY_EXPONENT if schedule == "poly" else 1.0


def compute_type(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the number type of the forward passes on a device."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
            precision
        ]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
