"""The optimiser loop: AdamW, warm-up and cosine decay, Dice + cross-entropy on every head."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from unet_pipeline.errors import RequestError
from unet_pipeline.training.augment import Augmentation
from unet_pipeline.training.crops import ROI, CropSource, Sample

OnStep = Callable[[int, float], None]
_WARM_UP = 0.05


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes
    ----------
    losses
        Loss of each step.
    seconds
        Wall time of the loop.
    """

    losses: tuple[float, ...]
    seconds: float


def fit(
    network: nn.Module,
    samples: Sequence[Sample],
    *,
    roi_size: ROI,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    augmentation: Augmentation | None = None,
    on_step: OnStep | None = None,
) -> FitReport:
    """Train ``network`` in place on random crops of ``samples``, on the device where it lies.

    Parameters
    ----------
    network
        Returns scores (B, C, X, Y, Z) with C >= 2, or a list of them, shallow to deep.
    samples
        Cases in the model space.
    roi_size
        Crop in voxels; divisible by the network's stride.
    steps, batch
        Optimiser steps, and crops per step.
    learning_rate
        Peak of the schedule.
    seed
        Seed of crops, augmentation and dropout; the weights are the caller's.
    spacing_mm
        Model spacing, so that rotations are rotations.
    on_step
        Called after each step with the number of steps done and the loss.

    Raises
    ------
    RequestError
        ``no_training_cases`` without samples; ``loss_not_finite`` when training diverges.
    """
    if not samples:
        raise _no_samples()
    rng = np.random.default_rng(seed)
    sources = [CropSource(sample) for sample in samples]
    augment = augmentation or Augmentation()
    criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    schedule = LambdaLR(optimiser, lambda step: rate_factor(step, steps))
    device = next(network.parameters()).device
    losses: list[float] = []
    start = time.perf_counter()
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            images, labels = draw_batch(sources, roi_size, batch, rng)
            images, labels = augment(images.to(device), labels.to(device), spacing_mm, rng)
            loss = deep_loss(network(images), labels, criterion)
            losses.append(_finite(loss, step, learning_rate))
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            if on_step:
                on_step(step + 1, losses[-1])
    network.eval()
    return FitReport(losses=tuple(losses), seconds=time.perf_counter() - start)


def draw_batch(
    sources: Sequence[CropSource], roi_size: ROI, batch: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``batch`` crops of different cases: images (B, C, X, Y, Z), labels (B, X, Y, Z)."""
    chosen = rng.choice(len(sources), size=batch, replace=batch > len(sources))
    crops = [sources[index].draw(roi_size, rng) for index in chosen]
    images_BCXYZ = np.stack([crop.image_CXYZ for crop in crops])
    labels_BXYZ = np.stack([crop.labels_XYZ.astype(np.int64) for crop in crops])
    return torch.from_numpy(images_BCXYZ), torch.from_numpy(labels_BXYZ)


def deep_loss(
    output: Tensor | Sequence[Tensor],
    labels_BXYZ: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the weighted mean of the criterion over the heads (deep supervision).

    Every head learns, so a network cut to fewer levels stays useful; the deepest counts most.
    """
    heads = [output] if isinstance(output, Tensor) else list(output)
    target = labels_BXYZ[:, None]
    terms = zip(head_weights(len(heads)), heads, strict=True)
    return torch.stack([weight * criterion(head, target) for weight, head in terms]).sum()


def head_weights(heads: int) -> list[float]:
    """Return one weight per head, shallow to deep: each twice the one before, together 1."""
    total = 2**heads - 1
    return [2**index / total for index in range(heads)]


def rate_factor(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at ``step``: linear warm-up, half a cosine."""
    warm_up = max(1, round(_WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _finite(loss: Tensor, step: int, learning_rate: float) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise RequestError(
            "loss_not_finite",
            found=f"a loss of {value} at step {step + 1} with learning rate {learning_rate:g}",
            wanted="a finite loss",
            remedy="Lower the learning rate, and look for NaN or infinite voxels in the images",
        )
    return value


def _no_samples() -> RequestError:
    return RequestError(
        "no_training_cases",
        found="no case with an image and a mask to train on",
        wanted="at least one",
        remedy="Check the image and mask prefixes, and that the gate passes some of the cases",
    )
