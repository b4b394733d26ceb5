"""What happens to labels between decision and file: a module for each step, of its name.

The names stand in ``choices.PostprocessName``; the module of ``a-b`` is ``a_b``, it has a ``STEP``,
and nobody else knows what it does. Steps work on the label map of a whole case, one after the other
in the order in which they were asked for, so tiles, workers and engines do not show in them. What
they are is in the digest of a run's settings, and what each changed in the record of a case.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import get_args

from unet_pipeline.choices import PostprocessName
from unet_pipeline.errors import RequestError
from unet_pipeline.postprocessing.protocol import LabelNumbers, LabelStep, StepKind
from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels

__all__ = ["LabelChange", "LabelStep", "labels_after", "postprocess", "read_steps", "step_named"]


def step_named(name: PostprocessName) -> StepKind:
    """Return what a step says of itself."""
    step: StepKind = import_module(f"{__name__}.{name.replace('-', '_')}").STEP
    return step


def read_steps(texts: Sequence[str], labels: Mapping[int, str]) -> tuple[LabelStep, ...]:
    """Return steps as they are asked for, such as ``largest:1,2`` or ``remove-small:0.5ml:liver``.

    Parameters
    ----------
    labels
        Name of each label that a run can give, background (0) included.

    Raises
    ------
    RequestError
        ``postprocess_invalid``.
    """
    return tuple(_read(text, LabelNumbers(labels)) for text in texts)


def postprocess(
    labels_XYZ: Labels, steps: Sequence[LabelStep], voxel_ml: float
) -> tuple[LabelChange, ...]:
    """Do steps to the label map of a case, in place, and return what each changed.

    Parameters
    ----------
    labels_XYZ
        The first axis innermost, as a file has it.
    voxel_ml
        Volume of a voxel.
    """
    return tuple(change for step in steps for change in step.apply(labels_XYZ, voxel_ml))


def labels_after(steps: Sequence[LabelStep], labels: Iterable[int]) -> tuple[int, ...]:
    """Return the labels that a map of these can have after steps, in numeric order."""
    left = frozenset(labels)
    for step in steps:
        left = step.leaves(left)
    return tuple(sorted(left))


def _read(text: str, numbers: LabelNumbers) -> LabelStep:
    name, *arguments = text.split(":")
    known = {each: step_named(each) for each in get_args(PostprocessName)}
    if name not in known:
        raise _invalid(text, "no step of this name", [kind.usage for kind in known.values()])
    try:
        return known[name].read(arguments, numbers)
    except ValueError as error:
        raise _invalid(text, str(error), [known[name].usage]) from error


def _invalid(text: str, found: str, usages: Sequence[str]) -> RequestError:
    return RequestError(
        "postprocess_invalid",
        subject=f"--postprocess {text}",
        found=found,
        wanted="; ".join(usages),
        remedy="Correct it; docs/postprocessing.md describes each step",
    )
