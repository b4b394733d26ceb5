"""Weights files, safetensors or ``.pt``."""

import logging
import pickle
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_config import invalid
from unet_pipeline.networks.pickles import load_tensors
from unet_pipeline.storage.pointers import pointer_to
from unet_pipeline.storage.store import Store

log = logging.getLogger(__name__)

MOST_BYTES = 8 * 2**30  # of a weights file; two billion parameters in single precision
_NAMED_AT_MOST = 3
# Where checkpoints keep the network's tensors; of several that are there the first is taken.
KEYS = (
    "state_dict", "model_state_dict", "network_weights", "model_state", "net_state_dict", "weights",
    "model", "network", "net", "module", "generator", "params", "model_weights", "ema",
    "model_ema", "ema_state_dict", "state_dict_ema", "teacher", "student",
)  # fmt: skip
_DEEPEST = 4  # mappings within mappings


def read_weights(url: str, store: Store) -> bytes:
    """Return a weights file, a program or a checkpoint, if the store says that it is not too large.

    Raises
    ------
    RequestError
        ``weights_too_large``, before anything is read; ``file_not_fetched`` for a pointer.
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
    data = store.read(url)
    if (pointer := pointer_to(data)) is not None:
        maker, command = pointer
        raise RequestError(
            "file_not_fetched",
            found=f"a pointer of {maker} ({size:,} bytes of text) instead of the weights",
            wanted="the file that it stands for",
            remedy=f"Fetch it: {command}",
            subject=url,
        )
    return data


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
    except Exception as error:  # of a damaged file torch may raise anything
        wanted = "weights that can be read to the end"
        raise invalid(url, f"{len(data)} bytes that are not weights", wanted) from error
    return _tensors_in(url, found)


def _tensors_in(url: str, found: Any, deep: int = 0) -> dict[str, Tensor]:
    """Return the state dict that a checkpoint holds, under whatever key it has."""
    entries = found if isinstance(found, Mapping) else {}
    if entries and all(isinstance(v, Tensor) and isinstance(k, str) for k, v in entries.items()):
        for name, tensor in entries.items():
            if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
                kind = "quantized" if tensor.is_quantized else f"{tensor.layout}, {tensor.dtype}"
                raise invalid(url, f"the tensor {name} ({kind})", "dense tensors of real numbers")
        return dict(entries)
    inside = [k for k, v in entries.items() if isinstance(v, Mapping) and _has_tensors(v)]
    usual = [key for key in KEYS if key in inside]
    if (not usual and len(inside) != 1) or deep == _DEEPEST:
        what = _entries(entries) if isinstance(found, Mapping) else type(found).__name__
        wanted = f"a state dict, tensors by name, alone or as one of {', '.join(KEYS)}"
        raise invalid(url, f"a file of {what}", wanted)
    key = (usual or inside)[0]
    if len(usual) > 1:
        log.warning("%s: takes %r; %s are there, too", url, key, ", ".join(map(repr, usual[1:])))
    return _tensors_in(url, entries[key], deep + 1)


def _has_tensors(found: Mapping[Any, Any], deep: int = 1) -> bool:
    """Say whether there are tensors by name, here or one of the usual keys below."""
    if any(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        return True
    below = [found[key] for key in KEYS if isinstance(found.get(key), Mapping)]
    return deep < _DEEPEST and any(_has_tensors(one, deep + 1) for one in below)


def _entries(found: Mapping[Any, Any]) -> str:
    if not found:
        return "nothing"
    kinds = [f"{str(key)[:60]!r} ({type(value).__name__})" for key, value in found.items()]
    return f"entries {_first(kinds, 12)}"


def fitted(url: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the tensors by the names that the bare network has for them.

    Wrappers put prefixes before names, one in the other: ``module.`` (distributed training),
    ``_orig_mod.`` (compiled), ``network.`` or ``model.`` (Lightning, nnU-Net and others). The one
    prefix is taken that gives all names; what has another, such as a loss, is left out.

    Raises
    ------
    RequestError
        As ``check_fit``; ``weights_ambiguous`` if several prefixes give all names.
    """
    named = {name.replace("_orig_mod.", ""): tensor for name, tensor in weights.items()}
    if len(named) < len(weights):
        named = dict(weights)
    prefix = _prefix(url, named, wanted)
    cut = len(prefix)
    bare = {name[cut:]: tensor for name, tensor in named.items() if name.startswith(prefix)}
    check_fit(url, bare, wanted)
    return bare


def _prefix(url: str, named: Iterable[str], wanted: Mapping[str, Tensor]) -> str:
    """Return the prefix under which most of the wanted names are found."""
    counts: Counter[str] = Counter()
    for name in named:
        at = 0
        while at >= 0:
            if name[at:] in wanted:
                counts[name[:at]] += 1
            at = name.find(".", at) + 1 or -1
    best = max(counts.values(), default=0)
    prefixes = sorted((p for p, count in counts.items() if count == best), key=len)
    if best == len(wanted) and len(prefixes) > 1 and prefixes[0]:
        raise RequestError(
            "weights_ambiguous",
            found=f"the network's tensors several times: {', '.join(map(repr, prefixes[:4]))}",
            wanted="them once",
            remedy="Save one of them alone",
            subject=url,
        )
    return prefixes[0] if prefixes else ""


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


def _first(names: list[str], most: int = _NAMED_AT_MOST) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
