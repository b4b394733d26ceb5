"""The command line that repeats a training."""

import shlex
from typing import Any

from unet_pipeline.config import TrainSettings

_ALWAYS = ("network", "features", "roi-size", "steps", "batch", "seed", "output")


def command_line(settings: TrainSettings, label_names: tuple[str, ...] = ()) -> str:
    """Return the command that repeats a training: what is not as by default, and the essentials."""
    urls = [settings.images, *([settings.masks] if settings.masks else [])]
    words = [f"unet-pipeline train {' '.join(map(shlex.quote, urls))}"]
    usual = _options(TrainSettings(images="images", output="output"))
    for name, value in {**_options(settings), "label-names": label_names or None}.items():
        if value is not None and (name in _ALWAYS or value != usual.get(name)):
            words.append(_word(name, value))
    return " \\\n    ".join(words)


def _options(settings: TrainSettings) -> dict[str, Any]:
    loss, optimiser, validation = settings.loss, settings.optimiser, settings.validation
    return {
        "network": settings.network,
        "features": settings.features,
        "upsample": settings.upsample,
        "attention": settings.attention,
        "classes": settings.classes,
        "roi-size": settings.roi_size,
        "spacing": settings.spacing,
        "steps": settings.steps,
        "batch": settings.batch,
        "loss": loss.name,
        "class-weights": loss.class_weights,
        "head-weights": loss.head_weights,
        "tversky": loss.tversky,
        "optimiser": optimiser.name,
        "learning-rate": optimiser.learning_rate,
        "weight-decay": optimiser.weight_decay,
        "schedule": optimiser.schedule,
        "precision": optimiser.precision,
        "augmentation": settings.augmentation,
        "flip": settings.flip,
        "holdout": settings.holdout,
        "fold": settings.fold,
        "validate-every": validation.every,
        "patience": validation.patience,
        "checkpoint-every": settings.checkpoint_every,
        "remedies": settings.gate.remedies,
        "tolerance": settings.gate.affine_voxels,
        "seed": settings.seed,
        "threads": settings.threads,
        "output": settings.output,
    }


def _word(name: str, value: Any) -> str:
    if value is True:
        return f"--{name}"
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"--{name} {shlex.quote(text)}"
