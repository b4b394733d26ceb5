"""Weights files, safetensors or ``.pt``."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_config import invalid
from unet_pipeline.storage.store import Store

MOST_BYTES = 8 * 2**30  # of a weights file; two billion parameters in single precision
_NAMED_AT_MOST = 3
_DAMAGED = (
    safetensors.SafetensorError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, KeyError,
    AttributeError, IndexError, OSError,
)  # fmt: skip


def read_weights(url: str, store: Store) -> bytes:
    """Return a weights file, a program or a checkpoint, if the store says that it is not too large.

    Raises
    ------
    RequestError
        ``weights_too_large``, before anything is read.
    """
    size = store.fingerprint(url).size
    if size > MOST_BYTES:
        raise RequestError(
            "weights_too_large",
            found=f"{size:,} bytes",
            wanted=f"at most {MOST_BYTES:,} bytes ({MOST_BYTES // 2**30} GiB), all in memory",
            remedy="Save the network's weights alone, without the optimizer's state, or in half "
            "precision",
            subject=url,
        )
    return store.read(url)


def parse_weights(url: str, data: bytes) -> dict[str, Tensor]:
    """Read a weights file: tensors by name. No code of the file is ever run.

    Parameters
    ----------
    url
        Tells the format by its ending, ``.safetensors`` or ``.pt``; named in errors.

    Raises
    ------
    RequestError
        ``weights_unsafe`` if loading would run code, ``bundle_invalid`` if it cannot be read.
    """
    load = safetensors.torch.load if url.endswith(".safetensors") else load_tensors
    try:
        found = load(data)
    except pickle.UnpicklingError as error:
        raise RequestError(
            "weights_unsafe",
            found="a .pt file that holds more than tensors, or is damaged",
            wanted="a state dict that torch.load(weights_only=True) accepts, or safetensors",
            remedy="Save the network's state_dict() alone, best as models/model.safetensors",
            subject=url,
        ) from error
    except _DAMAGED as error:
        wanted = "weights that can be read to the end"
        raise invalid(url, f"{len(data)} bytes that are not weights", wanted) from error
    for key in ("state_dict", "model"):  # checkpoints wrap the state dict
        found = found.get(key, found) if isinstance(found, Mapping) else {}
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise invalid(url, "values that are not tensors", "a state dict: tensors by name")
    return dict(found)


def load_tensors(data: bytes) -> Any:
    """Read what ``torch.save`` wrote, if it holds nothing but tensors and plain values.

    No other call of ``torch.load`` is in this package: none unpickles what could run code.

    Raises
    ------
    pickle.UnpicklingError
        For anything else in it.
    ValueError
        For a file that unpacks to more than it holds: PyTorch itself compresses nothing.
    """
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
        if unpacked > len(data):
            raise ValueError(f"{unpacked:,} bytes packed into {len(data):,}")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def check_fit(url: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare the tensors of a file with those of a network, by name and shape.

    Raises
    ------
    RequestError
        ``weights_mismatch``, naming the first tensors of each kind and how many there are.
    """
    missing = sorted(wanted.keys() - weights.keys())
    unexpected = sorted(weights.keys() - wanted.keys())
    differing = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if not (missing or unexpected or differing):
        return
    raise RequestError(
        "weights_mismatch",
        found="; ".join(
            f"{len(names)} tensors {what} ({_first(names)})"
            for what, names in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("of another shape", differing),
            )
            if names
        ),
        wanted=f"the {len(wanted)} tensors of the bundle's network_def",
        remedy="Take the weights that were trained with this network_def",
        subject=url,
    )


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED_AT_MOST]) + (", ..." if len(names) > _NAMED_AT_MOST else "")
