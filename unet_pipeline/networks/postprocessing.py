"""A bundle's ``postprocessing``, read as the decision that it comes to.

MONAI's steps act on the merged scores of the whole volume, in their order; these are looked at:

- ``Activationsd(softmax)`` or ``AsDiscreted(argmax)``: the highest score.
- ``Activationsd(sigmoid)``, ``AsDiscreted(threshold)``: regions, each decided alone. A sigmoid that
  stands before ``Invertd`` makes probabilities of the scores before they are resampled.
- ``Lambdad`` with nested ``torch.where`` after that: regions painted one over the other.
"""

import ast
from collections.abc import Iterable, Sequence
from itertools import dropwhile
from math import log
from typing import Any

from unet_pipeline.networks.bundle_config import ConfigFile
from unet_pipeline.networks.post_steps import PostStep, post_steps, unsupported
from unet_pipeline.tiling.decision import (
    BACKGROUND,
    MOST_COMBINED,
    Combined,
    Cut,
    Decision,
    Highest,
    Painted,
)

_MOST_CHARACTERS = 2000


def read_decision(config: ConfigFile, channels: int) -> Decision:
    """Return how a bundle decides the labels of its ``channels``.

    Raises
    ------
    RequestError
        ``decision_unsupported`` for a threshold that cannot be read, or from which no label map
        can be made.
    """
    steps = list(post_steps(config))
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
        raise unsupported(config, found, f"at most {MOST_COMBINED} of them")
    return painted or Combined(cut)


def without_background(decision: Decision, names: Sequence[str]) -> Decision:
    """Return the decision for two regions of which one is called background: the other is shown."""
    if isinstance(decision, Combined) and len(names) == 2 and names[0].lower() == BACKGROUND:
        return Painted((0, 1), (1,), decision.cut)
    return decision


def _first(steps: Iterable[PostStep], option: str) -> PostStep | None:
    return next((step for step in steps if step[option] in (True, "True", "true")), None)


def _number(config: ConfigFile, found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise unsupported(config, f"the threshold {found!r}", "one number")
    return float(found)


def _of_softmax(config: ConfigFile, level: float, channels: int) -> Decision:
    """Of two channels the one above 0.5 is the highest; no other threshold says the same."""
    if channels == 2 and level == 0.5:
        return Highest()
    found = f"softmax with threshold {level:g} over {channels} channels"
    raise unsupported(config, found, "argmax, or sigmoid with a threshold")


def _cut(
    config: ConfigFile, before: Sequence[PostStep], sigmoid: PostStep | None, level: float
) -> Cut:
    """Return the level of raw scores, or of probabilities where those are resampled.

    Parameters
    ----------
    before
        The steps up to the threshold.
    """
    if sigmoid is None:
        return Cut(level)
    if not 0 < level < 1:
        raise unsupported(config, f"sigmoid with threshold {level:g}", "one between 0 and 1")
    after = dropwhile(lambda step: step is not sigmoid, before)
    if any(step.name.startswith("Invert") for step in after):
        return Cut(level, probabilities=True)
    return Cut(log(level / (1 - level)))


def _painted(after: Iterable[PostStep], cut: Cut, channels: int) -> Painted | None:
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
