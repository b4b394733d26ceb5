"""A bundle's ``postprocessing``, read as the decision that it comes to.

MONAI's steps act on the merged scores of the whole volume, in their order; these are looked at:

- ``Activationsd(softmax)`` or ``AsDiscreted(argmax)``: the highest score.
- ``Activationsd(sigmoid)``, ``AsDiscreted(threshold)``: regions, each decided alone. A sigmoid that
  stands before ``Invertd`` makes probabilities of the scores before they are resampled.
- ``Lambdad`` with nested ``torch.where`` after that: regions painted one over the other.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from math import log
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import MOST_OF_A_NAME
from unet_pipeline.networks.bundle_config import ConfigFile
from unet_pipeline.texts import shown
from unet_pipeline.tiling.decision import (
    BACKGROUND,
    MOST_COMBINED,
    Combined,
    Cut,
    Decision,
    Highest,
    Painted,
)
from unet_pipeline.volume.options import brief

_DECIDING = ("Activations", "AsDiscrete")
_SPELLINGS = re.compile(r"(d|D|Dict)$")
_LEAVING_LABELS = frozenset(
    {"Invert", "SaveImage", "EnsureType", "EnsureChannelFirst", "ToTensor", "ToNumpy", "ToCupy",
     "ToDevice", "CastToType", "CopyItems", "DeleteItems", "SelectItems", "Identity", "DataStats",
     "SimulateDelay", "FlattenSubKeys"}
)  # fmt: skip
_HARMLESS = frozenset(
    {"_target_", "_desc_", "_disabled_", "_requires_", "allow_missing_keys", "lazy", "to_onehot",
     "n_classes", "num_classes", "rounding", "logit_thresh"}
)  # fmt: skip
_MOST_STEPS = 64
_OPTIONS = frozenset({"keys", "softmax", "sigmoid", "threshold", "argmax"})
_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class _Step:
    """One transform: its class, those of its options that matter, and names of the others."""

    name: str
    options: Mapping[str, Any]
    others: tuple[str, ...] = ()

    @property
    def is_about_labels(self) -> bool:
        """Whether it changes the scores or the labels; said of all whose keys are not plain."""
        keys = self.options.get("keys")
        return keys not in ("image", "label") and keys not in (["image"], ["label"])

    def __getitem__(self, option: str) -> Any:
        """Return an option; of a list with one value per key, that of ``pred``."""
        value, keys = self.options.get(option), self.options.get("keys")
        if not isinstance(value, list):
            return value
        index = keys.index("pred") if isinstance(keys, list) and "pred" in keys else 0
        return value[min(index, len(value) - 1)] if value else None


def read_decision(config: ConfigFile, channels: int) -> Decision:
    """Return how a bundle decides the labels of its ``channels``.

    Raises
    ------
    RequestError
        ``decision_unsupported`` for a threshold that cannot be read, or from which no label map
        can be made.
    """
    steps = list(_steps(config))
    sigmoid = _first(steps, "sigmoid")
    threshold = next((step for step in steps if step["threshold"] is not None), None)
    if _first(steps, "argmax") or (sigmoid is None and threshold is None):
        return Highest()
    level = _number(config, threshold["threshold"]) if threshold else 0.5
    if _first(steps, "softmax"):
        return _of_softmax(config, level, channels)
    before = steps[: steps.index(threshold)] if threshold else steps
    cut = _cut(config, before, sigmoid, level)
    painted = _painted(steps[len(before) :], cut, channels)
    if painted is None and channels > MOST_COMBINED:
        found = f"{channels} channels that may overlap, without an order"
        raise _unsupported(config, found, f"at most {MOST_COMBINED} of them")
    return painted or Combined(cut)


def without_background(decision: Decision, names: Sequence[str]) -> Decision:
    """Return the decision for two regions of which one is called background: the other is shown."""
    if isinstance(decision, Combined) and len(names) == 2 and names[0].lower() == BACKGROUND:
        return Painted((0, 1), (1,), decision.cut)
    return decision


def not_done(config: ConfigFile, decision: Decision) -> tuple[str, ...]:
    """Return what ``postprocessing`` would do to labels and is not done here, by name.

    Steps that only bring labels back and save them, or that are about other keys, are not among
    them.
    """
    painting = isinstance(decision, Painted)  # of which one Lambdad is read
    found = []
    for step in _steps(config):
        name = _SPELLINGS.sub("", step.name)
        if name in _LEAVING_LABELS or not step.is_about_labels:
            continue
        if name == "Lambda" and painting and read_painting(str(step.options.get("func"))):
            painting = False
        elif name not in _DECIDING:
            found.append(step.name or "a step without a name")
        elif others := [o for o in step.others if o not in _HARMLESS]:
            found.append(f"{step.name} ({', '.join(sorted(others))})")
    return tuple(shown(name, MOST_OF_A_NAME) for name in dict.fromkeys(found))


def _steps(config: ConfigFile) -> Iterator[_Step]:
    path, listed = _listed(config)
    for place, step in enumerate(listed[:_MOST_STEPS]):
        if not isinstance(step, dict):
            yield _Step(f"{brief(step)}", {}, ())
        elif config.value(f"{path}::{place}::_disabled_", False) not in (True, "true"):
            name = str(step.get("_target_", "")).rpartition(".")[2]
            deciding = _SPELLINGS.sub("", name) in _DECIDING
            read = _OPTIONS & set(step) if deciding else ()
            plain = {option: config.value(f"{path}::{place}::{option}") for option in read}
            keys = {"keys": step.get("keys"), "func": step.get("func")}
            others = (o for o, v in step.items() if o not in _OPTIONS and v not in (None, False))
            yield _Step(name, {**keys, **plain}, tuple(others))


def _listed(config: ConfigFile) -> tuple[str, list[Any]]:
    """Return the path of the list of steps, and the list as it stands."""
    post, path = config.content.get("postprocessing"), "postprocessing"
    if not isinstance(post, list):  # a Compose, or a reference to one
        path = f"{path}::transforms"
        listed = post.get("transforms") if isinstance(post, dict) else None
        if post is None or isinstance(post, dict | str):
            post = config.value(path, []) if listed is None or isinstance(listed, str) else listed
    if not isinstance(post, list) or len(post) > _MOST_STEPS:
        found = f"postprocessing of another form ({type(post).__name__})"
        raise _unsupported(config, found, f"a Compose of a list of at most {_MOST_STEPS} steps")
    return path, post


def _first(steps: Iterable[_Step], option: str) -> _Step | None:
    return next((step for step in steps if step[option] in (True, "True", "true")), None)


def _number(config: ConfigFile, found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _unsupported(config, f"the threshold {found!r}", "one number")
    return float(found)


def _of_softmax(config: ConfigFile, level: float, channels: int) -> Decision:
    """Of two channels the one above 0.5 is the highest; no other threshold says the same."""
    if channels == 2 and level == 0.5:
        return Highest()
    found = f"softmax with threshold {level:g} over {channels} channels"
    raise _unsupported(config, found, "argmax, or sigmoid with a threshold")


def _cut(config: ConfigFile, before: Sequence[_Step], sigmoid: _Step | None, level: float) -> Cut:
    """Return the level of raw scores, or of probabilities where those are resampled.

    Parameters
    ----------
    before
        The steps up to the threshold.
    """
    if sigmoid is None:
        return Cut(level)
    if not 0 < level < 1:
        raise _unsupported(config, f"sigmoid with threshold {level:g}", "one between 0 and 1")
    after = dropwhile(lambda step: step is not sigmoid, before)
    if any(step.name.startswith("Invert") for step in after):
        return Cut(level, probabilities=True)
    return Cut(log(level / (1 - level)))


def _painted(after: Iterable[_Step], cut: Cut, channels: int) -> Painted | None:
    """Return the regions that a ``Lambdad`` paints; None if there is none that can be read."""
    for step in after:
        strokes = read_painting(str(step["func"])) if step.name.startswith("Lambda") else None
        if strokes and max(strokes) < channels:
            values = tuple(strokes.get(channel, 0) for channel in range(channels))
            return Painted(values, tuple(strokes), cut)
    return None


def read_painting(expression: str) -> dict[int, int] | None:
    """Read ``$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))``, run nothing.

    Returns
    -------
    dict or None
        Label of each channel, the first painted first: above, {0: 1, 2: 4}. None for all else.
    """
    try:
        found = ast.parse(expression[1:_MOST_CHARACTERS].strip(), mode="eval").body
        match found:
            case ast.Lambda(args=ast.arguments(args=[ast.arg(arg=name)]), body=body):
                strokes = _strokes(body, name)
                return dict(strokes) if len(dict(strokes)) == len(strokes) else None
    except (SyntaxError, ValueError, RecursionError):
        pass
    return None


def _strokes(node: ast.expr, name: str) -> list[tuple[int, int]]:
    match node:
        case ast.Constant(value=0):
            return []
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="torch"), attr="where"),
            args=[
                ast.Compare(
                    left=ast.Subscript(
                        value=ast.Name(id=subject),
                        slice=ast.List(elts=[ast.Constant(value=int(channel))]),
                    ),
                    ops=[ast.Gt()],
                    comparators=[ast.Constant(value=0)],
                ),
                ast.Constant(value=int(label)),
                below,
            ],
            keywords=[],
        ) if subject == name and 0 < label < 2**16:
            return [*_strokes(below, name), (channel, label)]
    raise ValueError("not a painting")


def _unsupported(config: ConfigFile, found: str, wanted: str) -> RequestError:
    return RequestError(
        "decision_unsupported",
        found=found,
        wanted=wanted,
        remedy="Write into the bundle's postprocessing how its channels are decided",
        subject=config.url,
    )
