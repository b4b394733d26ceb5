"""Cases kept aside from training, and the Dice of a network on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import nn

from unet_pipeline.evaluation.metrics import dice_per_label, mean_dice
from unet_pipeline.networks.registry import final_scores
from unet_pipeline.training.crops import ROI, Sample


@dataclass(frozen=True)
class Split:
    """Names of the cases to train on and of those kept aside, each sorted."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def split_cases(names: Iterable[str], holdout: float, seed: int) -> Split:
    """Keep a share of the cases aside, chosen by ``seed`` and by the names alone.

    Parameters
    ----------
    holdout
        Share of the cases to keep aside, between 0 and 1. At least one case is left to train on.
    """
    ordered = sorted(names)
    kept = min(round(holdout * len(ordered)), max(len(ordered) - 1, 0))
    shuffled = np.random.default_rng(seed).permutation(len(ordered))
    held_out = {ordered[index] for index in shuffled[:kept]}
    return Split(
        training=tuple(name for name in ordered if name not in held_out),
        held_out=tuple(sorted(held_out)),
    )


def validate(
    network: nn.Module,
    samples: Iterable[Sample],
    *,
    roi_size: ROI,
    overlap: float,
    labels: Sequence[int],
) -> list[dict[int, float | None]]:
    """Return the Dice per label of each sample, in the model space, at the deepest head."""
    device = next(network.parameters()).device
    network.eval()
    scores = []
    with torch.inference_mode():
        for sample in samples:
            output_BCXYZ = sliding_window_inference(
                torch.from_numpy(sample.image_CXYZ)[None].to(device),
                roi_size,
                1,
                lambda windows: final_scores(network(windows)),
                overlap=overlap,
                mode="gaussian",
            )
            predicted_XYZ = output_BCXYZ[0].argmax(0).to("cpu", torch.uint8).numpy()
            scores.append(dice_per_label(predicted_XYZ, sample.labels_XYZ, labels))
    return scores


def mean_per_label(scores: Sequence[Mapping[int, float | None]]) -> dict[int, float | None]:
    """Return the mean Dice per label over the cases, or None where no case has the label."""
    labels = sorted({label for score in scores for label in score})
    return {label: mean_dice(score.get(label) for score in scores) for label in labels}
