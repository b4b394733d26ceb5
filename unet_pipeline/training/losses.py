"""What a network is trained to make small: MONAI's losses by name, on every head.

Labels, loss and output channels are held against each other before the first step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceCELoss, DiceFocalLoss
from monai.losses.tversky import TverskyLoss
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_pipeline.choices import LossName
from unet_pipeline.errors import RequestError

_WEIGHT_LIMITS = (0.1, 10.0)
_NAMED = 8  # cases or labels that a sentence names


@dataclass(frozen=True)
class Loss:
    """A loss and its numbers.

    Attributes
    ----------
    name
        ``dice_ce``: Dice + cross-entropy. ``weighted``: the same with a weight for each class.
        ``focal``: Dice + focal loss (Lin et al. 2017). ``tversky``: Salehi et al. 2017.
    class_weights
        One per class, background first, for ``weighted`` and ``focal``. None for none, which
        ``weighted`` replaces by ``balancing_weights``.
    head_weights
        One per head of a deep-supervised network, shallow to deep; None for ``doubling_weights``.
    tversky
        Weights of false positives and of false negatives.
    gamma
        Exponent of the focal loss.
    """

    name: LossName = "dice_ce"
    class_weights: tuple[float, ...] | None = None
    head_weights: tuple[float, ...] | None = None
    tversky: tuple[float, float] = (0.3, 0.7)
    gamma: float = 2.0

    def criterion(self) -> nn.Module:
        """Return the module that takes scores (B, C, X, Y, Z) and labels (B, 1, X, Y, Z)."""
        shared: dict[str, Any] = {"to_onehot_y": True, "softmax": True, "batch": True}
        weight = None if self.class_weights is None else torch.tensor(self.class_weights)
        made: nn.Module
        if self.name == "tversky":
            alpha, beta = self.tversky
            made = TverskyLoss(include_background=False, alpha=alpha, beta=beta, **shared)
        elif self.name == "focal":
            made = DiceFocalLoss(gamma=self.gamma, weight=weight, **shared)
        else:
            made = DiceCELoss(include_background=False, weight=weight, **shared)
        return made

    def weights_of(self, heads: int) -> tuple[float, ...]:
        """Return one weight per head, shallow to deep, together 1."""
        given = self.head_weights or doubling_weights(heads)
        return tuple(weight / sum(given) for weight in given)


def deep_loss(
    heads: Sequence[Tensor],
    labels_BXYZ: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
    weights: Sequence[float],
) -> Tensor:
    """Return the weighted sum of the criterion over the heads (deep supervision).

    Heads of weight 0 are left out.
    """
    target = labels_BXYZ[:, None]
    pairs = zip(weights, heads, strict=True)
    return torch.stack([w * criterion(head.float(), target) for w, head in pairs if w]).sum()


def doubling_weights(heads: int) -> tuple[float, ...]:
    """Return one weight per head: each twice the one before, together 1.

    Every head learns, so a network cut to fewer levels stays useful; the deepest counts most.
    """
    return tuple(2**index / (2**heads - 1) for index in range(heads))


def heads_of(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return the scores of all heads, shallow to deep, of whatever a network returns."""
    return [output] if isinstance(output, Tensor) else list(output)


def balancing_weights(masks: Iterable[NDArray[Any]], classes: int) -> tuple[float, ...]:
    """Return a weight per class: the median frequency over its own, between 0.1 and 10.

    Median frequency balancing (Eigen & Fergus 2015, section 6.3.2). A class that no mask has
    weighs 1.
    """
    counts = np.zeros(classes)
    for labels in masks:
        counts += np.bincount(labels.ravel(), minlength=classes)[:classes]
    present = counts > 0
    weights = np.ones(classes)
    weights[present] = np.clip(np.median(counts[present]) / counts[present], *_WEIGHT_LIMITS)
    return tuple(float(weight) for weight in weights.round(4))


def with_class_weights(loss: Loss, masks: Iterable[NDArray[Any]], classes: int) -> Loss:
    """Return the loss with all its weights, which are measured where it leaves that open."""
    if loss.name != "weighted" or loss.class_weights is not None:
        return loss
    return replace(loss, class_weights=balancing_weights(masks, classes))


def classes_of(labels_of: Mapping[str, frozenset[int]], wanted: int | None) -> int:
    """Return the number of output channels, background included.

    Parameters
    ----------
    labels_of
        For each case, the labels in its mask.
    wanted
        As asked for; None for one more than the largest label.

    Raises
    ------
    RequestError
        ``labels_without_channel``, ``labels_with_gaps``, or ``labels_missing`` where no mask has
        a label at all.
    """
    found = frozenset().union(*labels_of.values()) - {0}
    if not found:
        raise RequestError(
            "labels_missing",
            found=f"{len(labels_of)} masks without any label",
            wanted="at least one labelled structure",
            remedy="Check that the masks are those of the images",
        )
    if wanted is not None:
        _check_channels(labels_of, wanted)
        return wanted
    missing = frozenset(range(1, max(found))) - found
    if missing:
        raise RequestError(
            "labels_with_gaps",
            found=f"labels {_some(sorted(found))} in the masks, and nowhere {_some(missing)}",
            wanted="labels 1, 2, 3 and on, as each is an output channel of the network",
            remedy=f"Renumber the labels, or say --classes {max(found) + 1} to train with the gaps",
        )
    return max(found) + 1


def check_loss(loss: Loss, classes: int) -> None:
    """Hold a loss against the number of output channels.

    Raises
    ------
    RequestError
        ``class_weights_unused`` for a loss without such weights; ``class_weights_mismatch``.
    """
    if loss.class_weights is None:
        return
    if loss.name not in ("weighted", "focal"):
        raise RequestError(
            "class_weights_unused",
            found=f"class weights with the loss {loss.name}",
            wanted="a loss with class weights: weighted or focal",
            remedy="Choose one of these, or leave the class weights out",
        )
    if len(loss.class_weights) != classes:
        raise RequestError(
            "class_weights_mismatch",
            found=f"{len(loss.class_weights)} class weights",
            wanted=f"{classes}, one per output channel, background first",
            remedy="Give one weight for the background and one for each label",
        )


def check_network(
    network: nn.Module, loss: Loss, classes: int, channels: int, roi_size: Sequence[int]
) -> None:
    """Send an empty window through the network, and hold its heads against loss and labels.

    Raises
    ------
    RequestError
        ``channels_mismatch`` for heads without a channel per class; ``head_weights_mismatch``.
    """
    network.eval()
    with torch.inference_mode():
        device = next(network.parameters()).device
        heads = heads_of(network(torch.zeros(1, channels, *roi_size, device=device)))
    shapes = {tuple(head.shape) for head in heads}
    if shapes != {(1, classes, *roi_size)}:
        raise RequestError(
            "channels_mismatch",
            found=f"scores of shape {', '.join(map(str, sorted(shapes)))}",
            wanted=f"(1, {classes}, {', '.join(map(str, roi_size))}): one channel per class",
            remedy="Train a network whose output channels are the labels and the background",
        )
    if loss.head_weights is not None and len(loss.head_weights) != len(heads):
        raise RequestError(
            "head_weights_mismatch",
            found=f"{len(loss.head_weights)} head weights",
            wanted=f"{len(heads)}, one per head of the network, shallow to deep",
            remedy="Give one weight per head, or leave them out",
        )


def _check_channels(labels_of: Mapping[str, frozenset[int]], classes: int) -> None:
    beyond = {name: max(found) for name, found in labels_of.items() if max(found) >= classes}
    if beyond:
        raise RequestError(
            "labels_without_channel",
            found=f"labels up to {max(beyond.values())} in {_some(sorted(beyond))}",
            wanted=f"labels from 0 to {classes - 1}, as the network has {classes} output channels",
            remedy=f"Say --classes {max(beyond.values()) + 1}, or correct the masks",
        )


def _some(values: Iterable[Any]) -> str:
    """Return the first of the values as text."""
    listed = [str(value) for value in sorted(values)]
    return ", ".join(listed[:_NAMED]) + (", ..." if len(listed) > _NAMED else "")
