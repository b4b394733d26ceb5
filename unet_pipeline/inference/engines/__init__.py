"""What executes a network: a module for each engine, of its name in ``choices.EngineName``.

An engine is made for one network, one device and one batch shape. Its module has an ``ENGINE``, and
nobody else knows what it needs. ``choice`` says which is used (``docs/engines.md``).
"""

from importlib import import_module
from typing import get_args

from unet_pipeline.choices import EngineName
from unet_pipeline.inference.engines.protocol import Engine, EngineKind, Problem

__all__ = ["Engine", "EngineKind", "Problem", "engine_kind", "make_engine", "rivals_on"]


def engine_kind(name: EngineName) -> EngineKind:
    """Return what an engine says of itself."""
    kind: EngineKind = import_module(f"{__name__}.{name}").ENGINE
    return kind


def make_engine(name: EngineName, problem: Problem) -> Engine:
    """Make an engine.

    Raises
    ------
    RequestError
        ``engine_missing`` if what it needs is not installed, ``engine_unsupported`` if it cannot
        run this network on this device.
    """
    return engine_kind(name).make(problem)


def rivals_on(device: str) -> tuple[EngineName, ...]:
    """Return the engines that ``auto`` holds against eager on a type of device, in their order."""
    return tuple(name for name in get_args(EngineName) if device in engine_kind(name).auto_on)
