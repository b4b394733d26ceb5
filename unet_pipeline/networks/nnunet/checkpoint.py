"""nnU-Net's checkpoints, read without running code of theirs.

A checkpoint is a pickle of tensors, numbers and texts: ``pickles.load_tensors``.
"""

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.pickles import load_tensors

CHECKPOINT = "checkpoint_final.pth"
_PREFIX = re.compile(r"^((_orig_mod|module)\.)+")  # of compiled and of distributed training


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of a trained network.

    Attributes
    ----------
    weights
        Tensors by name.
    trainer, configuration
        Names of the trainer's class, and of the plan's configuration, e.g. ``3d_fullres``.
    mirror_axes
        Axes of the network's input that it was trained to be mirrored along.
    """

    weights: Mapping[str, Tensor]
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(url: str, data: bytes) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    RequestError
        ``weights_unsafe`` if reading it would run code; ``checkpoint_invalid`` if it is damaged, or
        no checkpoint of nnU-Net.
    """
    try:
        found = load_tensors(data)
        return Checkpoint(
            weights=_tensors(found["network_weights"]),
            trainer=str(found["trainer_name"]),
            configuration=str(found["init_args"]["configuration"]),
            mirror_axes=_axes(found.get("inference_allowed_mirroring_axes") or ()),
        )
    except pickle.UnpicklingError as error:
        raise RequestError(
            "weights_unsafe",
            found="a checkpoint that holds more than tensors, numbers and texts, or is damaged",
            wanted=f"{CHECKPOINT} as nnU-Net's training writes it",
            remedy="Take the model from its source again",
            subject=url,
        ) from error
    except Exception as error:  # of a damaged file torch may raise anything
        raise RequestError(
            "checkpoint_invalid",
            found=f"{len(data):,} bytes that are no checkpoint ({type(error).__name__})",
            wanted=f"{CHECKPOINT} as nnU-Net's training writes it",
            remedy="Take the model from its source again",
            subject=url,
        ) from error


def _tensors(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors by the names that the bare network has for them."""
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise TypeError("network_weights that are not all tensors")
    return {_PREFIX.sub("", name, 1): value for name, value in found.items()}


def _axes(found: Iterable[Any]) -> tuple[int, ...]:
    axes = tuple(int(axis) for axis in found)
    if not set(axes) <= {0, 1, 2}:
        raise ValueError(f"mirroring axes {axes}")
    return axes
