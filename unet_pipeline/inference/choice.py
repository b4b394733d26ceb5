"""Which engine a run uses: chosen once, on a worker, and then the same for all tiles.

An engine other than eager is used only if it gives eager's labels on a stored volume (``parity``).
``auto`` takes the fastest of those that do, by a few forward passes of the real window shape.
Both are kept per machine and bundle, so they cost something only once.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import median
from time import perf_counter
from typing import Any

import torch

from unet_pipeline.choices import EngineName, EngineWish
from unet_pipeline.errors import RequestError
from unet_pipeline.inference.cache import versions_of
from unet_pipeline.inference.engine_choice import Agreement, EngineChoice
from unet_pipeline.inference.engines import Engine, engine_kind, make_engine, rivals_on
from unet_pipeline.inference.engines.eager import EagerEngine
from unet_pipeline.inference.engines.parity import check_parity, refusal, stored_windows
from unet_pipeline.inference.measurements import (
    Measurements,
    cpu_model,
    load_measurements,
    save_measurements,
)
from unet_pipeline.inference.predictor import Predictor, device_of
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.tiling.decision import described

log = logging.getLogger(__name__)

LEAST_GAIN = 1.05  # an engine that is not this much faster is not worth other bits
MOST_ROUNDS, ENOUGH_SECONDS = 5, 10.0
_FORMAT = 3  # of what is kept; another one where engines or their check changed


def choose(spec: ModelSpec, asked: EngineWish) -> EngineChoice:
    """Choose an engine on this machine.

    Raises
    ------
    RequestError
        For an engine that was asked for by name: ``engine_missing``, ``engine_unsupported``, or
        ``engine_differs`` if its labels are not those of eager PyTorch.
    """
    if asked == "eager":
        return EngineChoice(asked, "eager")
    bench = _Bench(spec)
    if asked != "auto":
        agreement = bench.agreement(asked)
        return EngineChoice(asked, asked, bench.seconds(("eager", asked)), agreement)
    rivals, left_out = _usable(bench)
    seconds = bench.seconds(("eager", *rivals)) if rivals else {}
    engine = fastest(seconds)
    log.info("engine %s; seconds per window: %s", engine, seconds or "not measured")
    return EngineChoice(asked, engine, seconds, rivals.get(engine), left_out)


def check_batch(spec: ModelSpec) -> None:
    """See that an engine that was chosen may be used for another size of batches, too.

    Raises
    ------
    RequestError
        As ``choose``.
    """
    if spec.engine != "eager":
        _Bench(spec).agreement(spec.engine)


def fastest(seconds: Mapping[EngineName, float]) -> EngineName:
    """Return the fastest engine; eager unless another is faster by ``LEAST_GAIN``."""
    gain = {name: seconds["eager"] / value for name, value in seconds.items() if name != "eager"}
    best = max(gain, key=lambda name: gain[name], default=None)
    return best if best is not None and gain[best] >= LEAST_GAIN else "eager"


def _usable(bench: "_Bench") -> tuple[dict[EngineName, Agreement], dict[str, str]]:
    """Return the first rival of eager that may be used, and why those before it may not."""
    left_out: dict[str, str] = {}
    for name in rivals_on(bench.device.type):
        try:
            return {name: bench.agreement(name)}, left_out
        except RequestError as error:
            if not error.code.startswith("engine_"):
                raise
            level = logging.WARNING if error.code == "engine_differs" else logging.INFO
            log.log(level, "engine %s is left out: %s", name, error.found)
            left_out[name] = f"{error.code}: {error.found}"
    return {}, left_out


class _Bench:
    """Engines of one model on this machine, made when they are first needed."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._engines: dict[EngineName, Engine] = {}
        self.device = device_of(spec.device)
        self.key = _key(spec)
        self.known = load_measurements(self.key)

    @cached_property
    def predictor(self) -> Predictor:
        """The network, run by eager."""
        return Predictor(replace(self.spec, engine="eager"))

    def engine(self, name: EngineName) -> Engine:
        """Return an engine; it is made once."""
        if name not in self._engines:
            self._engines[name] = make_engine(name, self.predictor.problem)
        return self._engines[name]

    def agreement(self, name: EngineName) -> Agreement:
        """Return how an engine agrees with eager in float32, known or found out now.

        Raises
        ------
        RequestError
            What ``make_engine`` raises, and ``engine_differs`` if the engine may not be used.
        """
        if name not in self.known.agreements:
            engine, problem = self.engine(name), self.predictor.problem
            exact, decision = EagerEngine(problem, exact=True), self.spec.bundle.decision
            found = check_parity(exact, engine, self.windows, self.spec.batch, decision)
            self._keep(replace(self.known, agreements={**self.known.agreements, name: found}))
        agreement = self.known.agreements[name]
        if not agreement.passes:
            raise refusal(name, agreement)
        return agreement

    def seconds(self, names: Sequence[EngineName]) -> dict[EngineName, float]:
        """Return the seconds per window of engines, known or measured now side by side."""
        if not set(names) <= self.known.seconds.keys():
            places = [place % len(self.windows) for place in range(self.spec.batch)]
            engines = {name: self.engine(name) for name in names}
            found = seconds_per_window(engines, self.windows[places])
            self._keep(replace(self.known, seconds={**self.known.seconds, **found}))
        return {name: self.known.seconds[name] for name in names}

    @cached_property
    def windows(self) -> torch.Tensor:
        """What engines are compared on, NCXYZ, on the device."""
        spec, problem = self.spec, self.predictor.problem
        stored = stored_windows(spec.bundle.url, spec.store, problem.shape[1:])
        return stored.to(problem.device)

    def _keep(self, known: Measurements) -> None:
        self.known = known
        save_measurements(self.key, known)


def seconds_per_window(
    engines: Mapping[EngineName, Engine], batch_BCXYZ: torch.Tensor
) -> dict[EngineName, float]:
    """Return the median over rounds in which the engines take turns, after one that warms up."""
    spent: dict[EngineName, list[float]] = {name: [] for name in engines}
    begin = perf_counter()
    with torch.inference_mode():
        for round_number in range(MOST_ROUNDS + 1):
            for name, engine in engines.items():
                seconds = _time(engine, batch_BCXYZ)
                if round_number:
                    spent[name].append(seconds)
            if round_number and perf_counter() - begin > ENOUGH_SECONDS:
                break
    return {name: median(times) / len(batch_BCXYZ) for name, times in spent.items()}


def _time(engine: Engine, batch_BCXYZ: torch.Tensor) -> float:
    on_cuda = batch_BCXYZ.is_cuda
    if on_cuda:
        torch.cuda.synchronize()
    begin = perf_counter()
    engine(batch_BCXYZ)
    if on_cuda:
        torch.cuda.synchronize()
    return perf_counter() - begin


def _key(spec: ModelSpec) -> dict[str, Any]:
    """Return what a measurement holds for: another answer to any of it asks for a new one."""
    device = device_of(spec.device)
    on_cuda = device.type == "cuda"
    rivals = rivals_on(device.type)
    return {
        "format": _FORMAT,
        "machine": torch.cuda.get_device_name(device) if on_cuda else cpu_model(),
        "threads": spec.threads or os.cpu_count(),
        "decision": described(spec.bundle.decision),
        **spec.made_from,
        "versions": versions_of({"torch", *(engine_kind(name).package for name in rivals)}),
    }
