"""A linear probe: how well a layer's features tell the labels apart by a weighted sum alone.

Multinomial logistic regression on features that are brought to the output grid by linear
interpolation (Alain and Bengio 2016, "Understanding intermediate layers using linear classifier
probes"). The voxels it is fitted on are drawn by a seed, equally many of each label; its offsets
are then set for how frequent each label is (Prentice and Pyke 1979).

Interpolation is linear and its weights add up to 1, so it may come after the weighted sum: a probe
is applied on the layer's own grid, and only its few scores are interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unet_pipeline.caches import compilers_keep_to_it

PENALTY = 1e-4  # of the squared weights, for features of deviation 1
_NEVER = -1e4  # score of a label that no voxel has


@dataclass(frozen=True)
class Probe:
    """Weights of a linear probe.

    Attributes
    ----------
    weights_KC, offsets_K
        For each label the weight of each channel, and an offset.
    """

    weights_KC: Tensor
    offsets_K: Tensor

    def scores(self, features_BCXYZ: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the scores of each label on a grid of ``shape`` voxels, (B, K, X, Y, Z)."""
        weights = self.weights_KC.to(features_BCXYZ)
        scores = torch.einsum("kc,bcxyz->bkxyz", weights, features_BCXYZ)
        scores = scores + self.offsets_K.to(scores).view(1, -1, 1, 1, 1)
        if scores.shape[2:] == torch.Size(shape):
            return scores
        return functional.interpolate(
            scores, size=tuple(shape), mode="trilinear", align_corners=False
        )


def features_at(
    features_CXYZ: Tensor, voxels_N3: NDArray[np.int64], shape: Sequence[int]
) -> Tensor:
    """Return features at voxels of a grid of ``shape``, linearly interpolated, (N, C).

    The same as ``interpolate`` to that grid, without ever holding all channels on it.
    """
    sizes = np.asarray(shape)
    places = torch.from_numpy((2 * voxels_N3 + 1) / sizes - 1)[:, [2, 1, 0]].to(features_CXYZ)
    sampled = functional.grid_sample(
        features_CXYZ[None],
        places[None, :, None, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled[0, :, :, 0, 0].T


def balanced_voxels(
    labels_XYZ: NDArray[np.int16], labels: Sequence[int], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return indices (N, 3) of up to ``count`` voxels of each label, drawn without replacement."""
    drawn = []
    for label in labels:
        found_N3 = np.argwhere(labels_XYZ == label)
        size = min(count, len(found_N3))
        drawn.append(found_N3[np.sort(rng.choice(len(found_N3), size, replace=False))])
    return np.concatenate(drawn)


def fit_probe(features_NC: Tensor, targets_N: Tensor, frequency_K: Tensor) -> Probe:
    """Fit a probe; deterministic.

    Parameters
    ----------
    targets_N
        Index of each sample's label, from 0.
    frequency_K
        Share of each label among all voxels; 0 for a label that must not be predicted.
    """
    x, frequency = features_NC.double().cpu(), frequency_K.double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    deviation = torch.where(deviation > 1e-8 * (1 + mean.abs()), deviation, torch.inf)
    x = (x - mean) / deviation
    counts = torch.bincount(targets_N, minlength=len(frequency)).double()
    seen = (counts > 0) & (frequency > 0)
    of_class = torch.where(seen, 1 / (counts.clamp(min=1) * seen.sum()), 0.0)
    weights, offsets = _descend(x, targets_N.cpu(), of_class, seen)
    prior = torch.where(seen, frequency.clamp(min=1e-300).log(), torch.zeros_like(frequency))
    scaled = weights / deviation
    offsets = torch.where(seen, offsets + prior - scaled @ mean, torch.tensor(_NEVER).double())
    return Probe((scaled * seen[:, None]).float(), offsets.float())


def _descend(x: Tensor, targets_N: Tensor, of_class: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise the mean cross entropy, every class with equal weight, and the penalty."""
    weights = torch.zeros(len(of_class), x.shape[1], dtype=torch.float64, requires_grad=True)
    offsets = torch.zeros(len(of_class), dtype=torch.float64, requires_grad=True)
    unseen = torch.where(seen, 0.0, -torch.inf)
    compilers_keep_to_it()  # an optimiser imports them
    optimiser = torch.optim.LBFGS(
        [weights, offsets], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        log_p = torch.log_softmax(x @ weights.T + offsets + unseen, dim=1)
        entropy = -(log_p.gather(1, targets_N[:, None])[:, 0] * of_class[targets_N]).sum()
        value = entropy + PENALTY / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), offsets.detach()
