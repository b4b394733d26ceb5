"""What each case is for: training, validation or a test, by a seed or as a manifest says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.errors import RequestError
from unet_pipeline.records import TRAINING, Case

HELD_OUT = frozenset({"val", "valid", "validation", "held-out", "holdout"})
TEST = frozenset({"test", "testing"})
UNUSED = TEST | {"unused"}
PARTS = {  # words of a manifest's column split
    "training": TRAINING,
    "validation": HELD_OUT,
    "test": TEST,
    "unused": frozenset({"unused"}),
    "": frozenset({""}),
}
TO_CHOOSE_BY = ("validation", "")  # what a choice may be made on; a test would no longer be one
TO_COMPARE_ON = ("test", "validation", "")


@dataclass(frozen=True)
class Split:
    """Names of the cases to train on and of those kept aside, each sorted.

    Attributes
    ----------
    how
        What decided it, in words.
    """

    training: tuple[str, ...]
    held_out: tuple[str, ...]
    how: str = ""


def split_cases(names: Iterable[str], holdout: float, seed: int) -> Split:
    """Keep a share of the cases aside, chosen by ``seed`` and by the names alone.

    Parameters
    ----------
    holdout
        Share of the cases to keep aside, between 0 and 1. At least one case is left to train on.
    """
    ordered = sorted(names)
    kept = min(round(holdout * len(ordered)), max(len(ordered) - 1, 0))
    shuffled = np.random.default_rng(seed).permutation(len(ordered))
    held_out = {ordered[index] for index in shuffled[:kept]}
    return Split(
        training=tuple(name for name in ordered if name not in held_out),
        held_out=tuple(sorted(held_out)),
        how=f"{holdout:g} of the cases kept aside, chosen by seed {seed}",
    )


def split_of(cases: Sequence[Case], *, holdout: float, seed: int, fold: str | None) -> Split:
    """Split the cases as their manifest says, or by the seed where it says nothing.

    Parameters
    ----------
    cases
        The sound ones.
    fold
        The fold to keep aside, of a manifest with a column ``fold``.

    Raises
    ------
    RequestError
        ``fold_missing``, ``split_invalid``, or ``split_empty`` where nothing is left to train on,
        or nothing of what the manifest keeps aside.
    """
    if fold is not None or any(case.fold for case in cases):
        # manifests are read in lower case
        return _not_empty(_by_fold(cases, fold if fold is None else fold.strip().lower()))
    if any(case.split for case in cases):
        return _not_empty(_by_split(cases))
    return split_cases((case.name for case in cases), holdout, seed)


def is_used(case: Case) -> bool:
    """Say whether a manifest leaves a case to training at all: those of a test set it does not."""
    return case.split not in UNUSED


def part_of(case: Case) -> str:
    """Return what a manifest gives a case to: a key of ``PARTS``, empty where it says nothing.

    Raises
    ------
    RequestError
        ``split_invalid`` for a word that is none of these.
    """
    for part, words in PARTS.items():
        if case.split in words:
            return part
    raise _unknown_part(case)


def first_part(cases: Iterable[Case], wanted: Sequence[str]) -> str:
    """Return the first of the wanted parts that has a case; the last one if none has.

    Raises
    ------
    RequestError
        ``split_invalid``.
    """
    there = {part_of(case) for case in cases}
    return next((part for part in wanted if part in there), wanted[-1])


def _by_fold(cases: Sequence[Case], fold: str | None) -> Split:
    without = [case.name for case in cases if not case.fold]
    there = sorted({case.fold for case in cases if case.fold})
    if fold is None or fold not in there or without:
        named = f"folds {', '.join(there)} among the sound cases" if there else "no column fold"
        blank = f", and {len(without)} cases without one ({without[0]})" if without else ""
        raise RequestError(
            "fold_missing",
            found=named + (blank if there else ""),
            wanted="the fold to keep aside" if fold is None else f"cases of fold {fold}",
            remedy="Say --fold with one of these"
            if fold is None
            else "Give a manifest with a fold in each line, and name one of them",
        )
    return Split(
        _names(case for case in cases if case.fold != fold),
        _names(case for case in cases if case.fold == fold),
        f"fold {fold} of {', '.join(there)} kept aside, as the manifest says",
    )


def _by_split(cases: Sequence[Case]) -> Split:
    for case in cases:
        if case.split not in TRAINING | HELD_OUT:
            raise _unknown_part(case)
    return Split(
        _names(case for case in cases if case.is_for_training),
        _names(case for case in cases if case.split in HELD_OUT),
        "as the manifest says",
    )


def _unknown_part(case: Case) -> RequestError:
    return RequestError(
        "split_invalid",
        subject=case.name,
        found=f"{case.split!r} in the manifest's column split"
        if case.split
        else "nothing in the manifest's column split",
        wanted="train, validation or test",
        remedy="Correct that line of the manifest",
    )


def _names(cases: Iterable[Case]) -> tuple[str, ...]:
    return tuple(sorted(case.name for case in cases))


def _not_empty(split: Split) -> Split:
    if split.training and split.held_out:
        return split
    raise RequestError(
        "split_empty",
        found=f"{len(split.training)} sound cases to train on, {len(split.held_out)} kept aside",
        wanted="at least one of each, as the manifest speaks of both",
        remedy="Check the manifest's column, and run unet-pipeline check on its cases",
    )
