"""What a bundle's ``postprocessing`` does to labels after they are decided, as MONAI does it.

Steps that act on the label map of the file are done (``postprocessing/``). A step is refused by
name, with the reason, where its result would be another one: on the grid of the network, on regions
that overlap, or with an option that is not known here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unet_pipeline.networks.bundle import MOST_OF_A_NAME
from unet_pipeline.networks.bundle_config import ConfigFile
from unet_pipeline.networks.post_steps import DECIDING, PostStep, post_steps
from unet_pipeline.networks.postprocessing import read_painting
from unet_pipeline.postprocessing import LabelStep
from unet_pipeline.postprocessing.fill_holes import FillHoles
from unet_pipeline.postprocessing.keep import Keep
from unet_pipeline.postprocessing.largest import Largest
from unet_pipeline.postprocessing.parts import Connectivity
from unet_pipeline.postprocessing.remove_small import RemoveSmall
from unet_pipeline.texts import shown
from unet_pipeline.tiling.decision import Combined, Decision, Highest, Painted

_LEAVING_LABELS = frozenset(
    {"Invert", "SaveImage", "EnsureType", "EnsureChannelFirst", "ToTensor", "ToNumpy", "ToCupy",
     "ToDevice", "CastToType", "CopyItems", "DeleteItems", "SelectItems", "Identity", "DataStats",
     "SimulateDelay", "FlattenSubKeys"}
)  # fmt: skip
_HARMLESS = frozenset(
    {"_target_", "_desc_", "_disabled_", "_requires_", "allow_missing_keys", "lazy", "to_onehot",
     "n_classes", "num_classes", "rounding", "logit_thresh"}
)  # fmt: skip
_NEIGHBOURS: Mapping[Any, Connectivity] = {None: 26, 1: 6, 2: 18, 3: 26}
_MOST_LABELS = 2**16


def read_label_steps(
    config: ConfigFile, decision: Decision, channels: int
) -> tuple[tuple[LabelStep, ...], tuple[str, ...]]:
    """Return what a bundle does to its labels, and what of it is not done here, by name.

    Steps that only bring labels back and save them, or that are about other keys, are neither.

    Parameters
    ----------
    channels
        Of the network's scores.
    """
    steps = list(post_steps(config))
    painting = isinstance(decision, Painted)  # of which one Lambdad is read
    done: list[LabelStep] = []
    left: list[str] = []
    for place, step in enumerate(steps):
        if step.kind in _LEAVING_LABELS or not step.is_about_labels:
            continue
        if step.kind == "Lambda" and painting and read_painting(str(step.options.get("func"))):
            painting = False
        elif step.kind in DECIDING:
            others = [option for option in step.others if option not in _HARMLESS]
            left += [f"{step.name} ({', '.join(sorted(others))})"] if others else []
        else:
            try:
                done += _read(step, _Around(steps[:place], steps[place + 1 :], decision, channels))
            except ValueError as error:
                why = f" ({error})" if str(error) else ""
                left.append(f"{step.name or 'a step without a name'}{why}")
    return tuple(done), tuple(shown(name, MOST_OF_A_NAME) for name in dict.fromkeys(left))


class _Around:
    """What stands before and behind a step, and what the labels are there."""

    def __init__(
        self,
        before: Sequence[PostStep],
        after: Sequence[PostStep],
        decision: Decision,
        channels: int,
    ) -> None:
        self.channels = channels
        argmax = any(step["argmax"] in (True, "True", "true") for step in before)
        threshold = any(step["threshold"] is not None for step in before)
        asked = any(step["to_onehot"] not in (None, False) for step in before)
        self.one_hot = asked or (threshold and not argmax and channels > 1)
        self.is_decided = argmax or threshold
        self.is_inverted_later = any(step.kind == "Invert" for step in after)
        self.is_label_map = isinstance(decision, Highest) or (
            isinstance(decision, Combined) and channels == 1
        )

    def check(self) -> None:
        """Refuse a step that does not act on the label map of the file."""
        if not self.is_decided:
            raise ValueError("before the labels are decided")
        if self.is_inverted_later:
            raise ValueError("on the grid of the network, before Invertd")
        if not self.is_label_map:
            raise ValueError("on regions that may overlap")


def _read(step: PostStep, around: _Around) -> list[LabelStep]:
    """Return what a step comes to: nothing, where it is about no label.

    Raises
    ------
    ValueError
        With the reason, or without where the step is not known at all.
    """
    reader = _READERS.get(step.kind)
    if reader is None:
        raise ValueError
    if others := [option for option in step.others if option not in _HARMLESS]:
        raise ValueError(", ".join(sorted(others)))
    if step["keys"] != "pred":
        raise ValueError("another key than pred")
    around.check()
    return reader(step, around)


def _largest(step: PostStep, around: _Around) -> list[LabelStep]:
    labels, is_one_hot = _labels(step), _flag(step, "is_onehot", around.one_hot)
    if is_one_hot != around.one_hot:
        raise ValueError("is_onehot, and the labels are not so")
    count = 1 if step["num_components"] is None else step["num_components"]
    if not _is_int(count) or not 0 < count < _MOST_LABELS:
        raise ValueError("num_components")
    together = not _flag(step, "independent", True)
    if labels == ():
        return []
    return [Largest(labels or (), together, count, connectivity=_connectivity(step))]


def _fill_holes(step: PostStep, around: _Around) -> list[LabelStep]:
    _check_not_one_hot(around)
    return [FillHoles(_labels(step) or (), _connectivity(step))]


def _label_filter(step: PostStep, around: _Around) -> list[LabelStep]:
    _check_not_one_hot(around)
    labels = _labels(step)
    if labels is None:
        raise ValueError("no applied_labels")
    return [Keep(labels)]


def _remove_small(step: PostStep, around: _Around) -> list[LabelStep]:
    """Read a step that MONAI does to parts only of a mask of one label; else to labels as such."""
    if around.one_hot or around.channels > 2:
        raise ValueError("of several labels")
    _flag(step, "independent_channels", True)  # there is one
    if step["pixdim"] is not None:
        raise ValueError("pixdim")
    size = 64 if step["min_size"] is None else step["min_size"]
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < 1e12:
        raise ValueError("min_size")
    connectivity = _NEIGHBOURS[1] if step["connectivity"] is None else _connectivity(step)
    in_ml = _flag(step, "by_measure", False)
    return [RemoveSmall(size / 1000 if in_ml else size, "ml" if in_ml else "voxels", (),
                        connectivity)]  # fmt: skip


_READERS: Mapping[str, Callable[[PostStep, _Around], list[LabelStep]]] = {
    "KeepLargestConnectedComponent": _largest,
    "FillHoles": _fill_holes,
    "LabelFilter": _label_filter,
    "RemoveSmallObjects": _remove_small,
}


def _labels(step: PostStep) -> tuple[int, ...] | None:
    """Return ``applied_labels`` without background; None for all."""
    asked = step.options.get("applied_labels")
    if asked is None:
        return None
    labels = asked if isinstance(asked, list) else [asked]
    if len(labels) > _MOST_LABELS or not all(_is_int(one) and one >= 0 for one in labels):
        raise ValueError("applied_labels")
    return tuple(dict.fromkeys(label for label in labels if label))


def _connectivity(step: PostStep) -> Connectivity:
    asked = step["connectivity"]
    if not _is_int(asked, none=True) or asked not in _NEIGHBOURS:
        raise ValueError("connectivity")
    return _NEIGHBOURS[asked]


def _flag(step: PostStep, name: str, default: bool) -> bool:
    asked = step[name]
    if asked is not None and not isinstance(asked, bool):
        raise ValueError(name)
    return default if asked is None else asked


def _is_int(value: Any, none: bool = False) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (none and value is None)


def _check_not_one_hot(around: _Around) -> None:
    if around.one_hot:
        raise ValueError("behind to_onehot")
