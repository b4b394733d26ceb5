"""What nnU-Net's ``postprocessing.json`` or ``.pkl`` does to label maps; no pickle's code is run.

nnU-Net 2 knows one function, which keeps the largest part of labels or regions, taken together. It
is done as nnU-Net does it. All else is named, and not done.
"""

import io
import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pickletools import genops
from typing import Any

from unet_pipeline.networks.bundle import MOST_OF_A_NAME
from unet_pipeline.postprocessing import LabelStep
from unet_pipeline.postprocessing.largest import Largest
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import basename, parent
from unet_pipeline.texts import shown

KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"
_FILE = re.compile(r"(crossval_results[^/]*/)?postprocessing\.(pkl|json)")
_MOST_BYTES = 2**20
_PLACES = frozenset({"PUT", "LONG_BINPUT"})
_MOST_LABELS = 2**16


def read_label_steps(model: str, store: Store) -> tuple[tuple[LabelStep, ...], tuple[str, ...]]:
    """Return what a model does to label maps, and what of it is not done here, by name.

    A folder has the same in both forms; the pickle is read where it is alone. Several folders must
    say the same.
    """
    files = [
        file
        for file in sorted(store.list_files(model))
        if _FILE.fullmatch(file.removeprefix(model).strip("/"))
    ]
    folders = {parent(file): file for file in reversed(files)}  # the JSON, where there is one
    found: dict[str, tuple[LabelStep, ...]] = {}
    left: list[str] = []
    for file in sorted(folders.values()):
        try:
            found[file] = _steps_of(file, store.read_range(file, 0, _MOST_BYTES + 1))
        except ValueError as error:
            left.append(f"{basename(file)}: {error}")
    if len(set(found.values())) > 1:
        left.append(f"postprocessing of {len(found)} folders that differ")
    if left:
        return (), tuple(shown(name, MOST_OF_A_NAME) for name in dict.fromkeys(left))
    return next(iter(found.values()), ()), ()


def _steps_of(file: str, data: bytes) -> tuple[LabelStep, ...]:
    """Return the steps of one file.

    Raises
    ------
    ValueError
        With what is not done.
    """
    if len(data) > _MOST_BYTES:
        raise ValueError("too large")
    functions, arguments = (_of_json if file.endswith(".json") else _of_pickle)(data)
    if not _is_list(functions) or not _is_list(arguments) or len(functions) != len(arguments):
        raise ValueError("unreadable")
    return tuple(_step(str(f), a) for f, a in zip(functions, arguments, strict=True))


def _of_json(data: bytes) -> tuple[Any, Any]:
    try:
        content = json.loads(data)
        functions = content.get("postprocessing_fns") or ()
        arguments = content.get("postprocessing_kwargs") or [{}] * len(functions)
        classes = content.get("for_which_classes")
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("unreadable") from error
    if classes:  # of nnU-Net 1
        raise ValueError(f"largest component of {classes}")
    return functions, arguments


def _of_pickle(data: bytes) -> tuple[Any, Any]:
    try:
        _check_places(data)
        functions, arguments = _NamesOnly(io.BytesIO(data)).load()
    except Exception as error:  # of a damaged pickle this may raise anything
        raise ValueError(str(error) if isinstance(error, _Unknown) else "unreadable") from error
    return functions, arguments


def _check_places(data: bytes) -> None:
    """Refuse a pickle that puts something in a far place: memory is asked for up to there."""
    if any(code.name in _PLACES and int(place or 0) > len(data) for code, place, _ in genops(data)):
        raise _Unknown("unreadable")


class _Unknown(pickle.UnpicklingError):
    """A pickle that names something else than the one function."""


class _NamesOnly(pickle.Unpickler):
    """Reads plain values; the one function that is known becomes its name, others are refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a name, and never what it is a name of."""
        if name != KEEP_LARGEST:
            raise _Unknown(name)
        return name

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what lies elsewhere."""
        raise _Unknown("something that lies elsewhere")


def _step(function: str, arguments: Any) -> LabelStep:
    if function != KEEP_LARGEST:
        raise ValueError(function)
    if not isinstance(arguments, Mapping) or arguments.get("background_label", 0) != 0:
        raise ValueError(f"{function} with another background")
    if others := arguments.keys() - {"labels_or_regions", "background_label"}:
        raise ValueError(f"{function} with {', '.join(sorted(map(str, others)))}")
    labels = tuple(sorted(set(_labels(function, arguments.get("labels_or_regions")))))
    if not labels:
        raise ValueError(f"{function} of no label")
    return Largest(labels, together=len(labels) > 1, ties=True)


def _labels(function: str, asked: Any) -> Iterator[int]:
    """Yield the labels of a label, a region, or a list of both."""
    for one in asked if _is_list(asked) else [asked]:
        for label in one if _is_list(one) else [one]:
            is_label = isinstance(label, int) and not isinstance(label, bool)
            if not is_label or not 0 < label < _MOST_LABELS:
                raise ValueError(f"{function} of what is no label")
            yield label


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= _MOST_LABELS
