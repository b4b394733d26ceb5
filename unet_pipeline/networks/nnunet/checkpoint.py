"""nnU-Net's checkpoints, read without running code of theirs.

A checkpoint is a pickle of tensors, numbers and texts, some of them numpy's. The few names that
such files need are allowed here, and nothing else is: ``torch.load(weights_only=True)``.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from unet_pipeline.errors import RequestError

CHECKPOINT = "checkpoint_final.pth"
_PREFIXES = ("_orig_mod.", "module.")  # of compiled and of distributed training
_NUMBERS = (
    np.dtypes.BoolDType,
    np.dtypes.Int32DType,
    np.dtypes.Int64DType,
    np.dtypes.Float16DType,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
)


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes that pickle wrote as a text; stands for ``_codecs.encode``."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"a text encoded as {encoding!r}")
    return text.encode("latin1")


_ALLOWED: list[Any] = [
    np.dtype,
    *_NUMBERS,
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    (_latin1, "_codecs.encode"),
]


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
        with torch.serialization.safe_globals(_ALLOWED):
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return Checkpoint(
            weights={_plain(name): value for name, value in found["network_weights"].items()},
            trainer=str(found["trainer_name"]),
            configuration=str(found["init_args"]["configuration"]),
            mirror_axes=tuple(found.get("inference_allowed_mirroring_axes") or ()),
        )
    except pickle.UnpicklingError as error:
        raise RequestError(
            "weights_unsafe",
            found="a checkpoint that holds more than tensors, numbers and texts, or is damaged",
            wanted=f"{CHECKPOINT} as nnU-Net's training writes it",
            remedy="Take the model from its source again",
            subject=url,
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            "checkpoint_invalid",
            found=f"{len(data):,} bytes that are no checkpoint ({type(error).__name__})",
            wanted=f"{CHECKPOINT} as nnU-Net's training writes it",
            remedy="Take the model from its source again",
            subject=url,
        ) from error


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
