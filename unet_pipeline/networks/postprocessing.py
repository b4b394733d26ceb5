"""A bundle's ``postprocessing``, read as the decision that it comes to.

MONAI's steps act on the merged scores of the whole volume, in their order; these are looked at:

- ``Activationsd(softmax)`` or ``AsDiscreted(argmax)``: the highest score.
- ``Activationsd(sigmoid)``, ``AsDiscreted(threshold)``: regions, each decided alone. A sigmoid that
  stands before ``Invertd`` makes probabilities of the scores before they are resampled.
- ``Lambdad`` with nested ``torch.where`` after that: regions painted one over the other.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from math import log
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_config import ConfigFile
from unet_pipeline.tiling.decision import MOST_COMBINED, Combined, Cut, Decision, Highest, Painted

_DECIDING = ("Activations", "AsDiscrete")
_OPTIONS = frozenset({"keys", "softmax", "sigmoid", "threshold", "argmax"})
_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class _Step:
    """One transform: its class, and those of its options that matter."""

    name: str
    options: Mapping[str, Any]

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


def _steps(config: ConfigFile) -> Iterator[_Step]:
    post, path = config.content.get("postprocessing") or (), "postprocessing"
    if not isinstance(post, list | tuple):  # a Compose, or a reference to one
        path = f"{path}::transforms"
        post = post.get("transforms", ()) if isinstance(post, dict) else config.value(path)
    for place, step in enumerate(post):
        if isinstance(step, dict) and step.get("_disabled_", False) not in (True, "true"):
            name = str(step.get("_target_", "")).rpartition(".")[2]
            read = _OPTIONS & set(step) if name.startswith(_DECIDING) else ()
            plain = {option: config.value(f"{path}::{place}::{option}") for option in read}
            yield _Step(name, {"func": step.get("func"), **plain})


def _first(steps: Iterable[_Step], option: str) -> _Step | None:
    return next((step for step in steps if step[option] is True), None)


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
