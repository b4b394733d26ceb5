"""What all engines have in common."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unet_pipeline.caches import compilers_keep_to_it
from unet_pipeline.choices import EngineName
from unet_pipeline.errors import RequestError
from unet_pipeline.networks.registry import final_scores

_LONGEST_REASON = 200  # characters


@dataclass(frozen=True)
class Problem:
    """What an engine is made for.

    Attributes
    ----------
    network
        In evaluation mode, on ``device``; it does not change while the engine is used.
    shape
        Of every batch, BCXYZ.
    threads
        CPU threads of one forward pass.
    made_from
        All that decides what the network computes, in plain types: an engine may keep what it makes
        of it in the cache folder. None: the network is nobody else's, and nothing is kept.
    """

    network: nn.Module
    shape: tuple[int, ...]
    device: torch.device
    threads: int
    made_from: Mapping[str, Any] | None = None


class Engine(Protocol):
    """Executes a network on batches of one shape.

    Attributes
    ----------
    name
        As in the settings.
    memory_format
        Order in memory of the batches that suit it best.
    """

    name: EngineName
    memory_format: torch.memory_format

    def __call__(self, batch_BCXYZ: Tensor) -> Tensor:
        """Return float32 scores BKXYZ of the deepest head, valid until the next call.

        ``batch_BCXYZ`` is float32, on the engine's device.
        """
        ...


@dataclass(frozen=True)
class EngineKind:
    """What an engine says of itself.

    Attributes
    ----------
    make
        Makes one. Raises ``RequestError`` where it cannot: ``engine_missing``,
        ``engine_unsupported``.
    auto_on
        Types of device on which ``auto`` holds it against eager, if no engine before it may be
        used.
    package
        The package behind it: with another version it is measured anew.
    """

    make: Callable[[Problem], Engine]
    auto_on: frozenset[str] = frozenset()
    package: str = "torch"


class DeepestHead(nn.Module):
    """A network that returns one tensor; what only shallower heads need is not converted."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the deepest head."""
        return final_scores(self.network(x))


def exported(problem: Problem) -> torch.export.ExportedProgram:
    """Return the network as a graph of fixed shapes; one whose layers depend on data has none.

    Tracing (``torch.jit.trace``) would take such a network, and keep what one example took.
    """
    compilers_keep_to_it()
    example_BCXYZ = torch.zeros(problem.shape, device=problem.device)
    return torch.export.export(DeepestHead(problem.network).eval(), (example_BCXYZ,))


@contextmanager
def no_warnings() -> Iterator[None]:
    """Hide what converters say of each other's deprecated parts; a user can do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def need_device(name: EngineName, problem: Problem, kind: str) -> None:
    """Refuse an engine on a device that it is not for."""
    if problem.device.type != kind:
        raise unsupported(name, f"work on {problem.device.type}, and the engine is for {kind}")


def unsupported(name: EngineName, reason: str | Exception) -> RequestError:
    """Return the error of an engine that cannot run a network."""
    if isinstance(reason, Exception):
        first = next(iter(str(reason).strip().splitlines()), "")[:_LONGEST_REASON]
        reason = f"a network that it does not take ({type(reason).__name__}: {first})"
    return RequestError(
        "engine_unsupported",
        found=reason,
        wanted=f"what the engine {name} can run",
        remedy="Leave --engine out, or say --engine auto",
    )


def missing(name: EngineName, package: str, install: str) -> RequestError:
    """Return the error of an engine whose package is not installed."""
    return RequestError(
        "engine_missing",
        found=f"no package {package} on the workers",
        wanted=f"it, for --engine {name}",
        remedy=f"Install {install}, or leave --engine out",
    )
