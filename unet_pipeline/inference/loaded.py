"""The predictors of this process: loaded once, and arranged for less where memory runs out.

What fitted is known from then on, by process and model: the next call does not run into the same.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import TypeVar

import torch

from unet_pipeline.inference.choice import check_batch
from unet_pipeline.inference.memory import is_out_of_memory, no_memory
from unet_pipeline.inference.predictor import Arrangement, Predictor, device_of
from unet_pipeline.inference.spec import ModelSpec

T = TypeVar("T")
log = logging.getLogger(__name__)

_predictors: dict[tuple[object, ...], Predictor] = {}
_fitting: dict[tuple[object, ...], Arrangement] = {}  # what fits, where memory ran out
_loading = Lock()


def predictor_for(spec: ModelSpec) -> Predictor:
    """Return this process's predictor, loaded at the first call; the last ``kept`` are kept."""
    return _predictor(spec, _known(spec))


def within_memory(spec: ModelSpec, use: Callable[[Predictor], T]) -> T:
    """Let this process's predictor be used; where memory runs out, one that takes less.

    Each time ``use`` begins anew: with smaller batches, then with sums on the host.

    Raises
    ------
    CaseError
        ``out_of_memory`` if the least does not fit. What fitted before is then tried first again.
    """
    before = arrangement = _known(spec)
    while True:
        try:
            used = use(_predictor(spec, arrangement))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            less = _less(spec, arrangement)
            if less is None:
                _fitting[spec.key] = before
                raise no_memory(error, _said(spec, arrangement)) from None
        else:
            if arrangement != before:
                _fitting[spec.key] = arrangement
            return used
        _let_go()  # of what the error held, too
        log.warning("no memory for %s: %s", spec.bundle.name, less.steps_from(spec.batch))
        _fitting[spec.key] = arrangement = less
        if arrangement.batch != spec.batch:
            check_batch(replace(spec, batch=arrangement.batch))


def _less(spec: ModelSpec, failed: Arrangement) -> Arrangement | None:
    """Return what takes less than what failed, as another call has found out, or half of it."""
    now = _known(spec)
    if now != failed and now.batch <= failed.batch:
        return now
    return failed.less(device_of(spec.device))


def _known(spec: ModelSpec) -> Arrangement:
    return _fitting.get(spec.key, Arrangement(spec.batch))


def _predictor(spec: ModelSpec, arrangement: Arrangement) -> Predictor:
    with _loading:
        known = _predictors.pop(spec.key, None)
        if known is None:
            for oldest in list(_predictors)[: max(0, len(_predictors) + 1 - spec.kept)]:
                del _predictors[oldest]
            known = Predictor(spec, arrangement=arrangement)
            log.info("loaded %s on %s", spec.bundle.name, known.device)
        elif known.arrangement != arrangement:
            known = known.arranged(arrangement)
        _predictors[spec.key] = known
        return known


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _said(spec: ModelSpec, arrangement: Arrangement) -> str:
    shape = " x ".join(map(str, spec.roi_size))
    return f"one tile and a batch of {arrangement.batch} windows of {shape} voxels"
