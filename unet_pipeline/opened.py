"""Models for whoever runs no network: opened by a process beside it, which imports torch and MONAI.

They take 0.5 GB and several seconds, and the driver of a cluster needs neither once it knows what a
bundle says. The process is a copy of the one that workers are copies of, where there is such a one.
What is wrong with a bundle is found there, before work starts, and is raised here. Where this
process has torch already, or is to run the network itself, it opens the model itself.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from unet_pipeline.cluster.beside import call_beside
from unet_pipeline.cluster.places import place_of
from unet_pipeline.config import CheckSettings, SegmentSettings
from unet_pipeline.gate.examine import Policy
from unet_pipeline.model import Model
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.processes import lasting_imports
from unet_pipeline.storage.store import Store

_T = TypeVar("_T")


def open_models(asked: Sequence[SegmentSettings], store: Store) -> list[Model]:
    """Open the models of a request, and check that their networks can run it.

    Raises
    ------
    RequestError
        What ``open_first`` and ``open_network`` raise; ``opening_failed``.
    """
    return _opened(asked[0].cluster.kind, _models, asked, store)


def open_to_plan(settings: SegmentSettings, store: Store) -> Model:
    """Open the model of a request of which only its windows matter.

    Raises
    ------
    RequestError
        What ``open_first`` raises; ``opening_failed``.
    """
    return _opened(None, _first, settings, store)


def bundle_of(settings: SegmentSettings | CheckSettings, store: Store) -> Bundle | None:
    """Return what the bundle of a request says, if it names one.

    Raises
    ------
    RequestError
        What ``load_bundle`` raises; ``opening_failed``.
    """
    if not settings.model:
        return None
    trust = isinstance(settings, SegmentSettings) and settings.trust
    return _opened(None, _bundle, settings.model, store, trust)


def checked_by(settings: CheckSettings, store: Store) -> tuple[Bundle | None, Policy | None]:
    """Return the bundle that cases are checked for, and what they are held against; or neither.

    Raises
    ------
    RequestError
        What ``load_bundle`` raises; ``opening_failed``.
    """
    return _opened(None, _policy, settings, store) if settings.model else (None, None)


def _opened(kind: str | None, function: Callable[..., _T], *arguments: object) -> _T:
    """Call a function here or beside, for a cluster of a kind; None if none is to be started."""
    if kind == "serial" or "torch" in sys.modules:
        with lasting_imports():
            return function(*arguments)
    copies = kind is not None and place_of(kind).starts_empty
    return call_beside(function, *arguments, copies=copies)


# what follows is called there


def _models(asked: Sequence[SegmentSettings], store: Store) -> list[Model]:
    from unet_pipeline.opening import open_network

    models = [_first(one, store) for one in asked]
    for model in models:
        open_network(model)  # so that not every worker finds out that weights do not fit
    return models


def _first(settings: SegmentSettings, store: Store) -> Model:
    from unet_pipeline.ensembles import open_first

    return open_first(settings, store)


def _bundle(url: str, store: Store, trust: bool) -> Bundle:
    from unet_pipeline.networks.loading import load_bundle

    return load_bundle(url, store, trust=trust)


def _policy(settings: CheckSettings, store: Store) -> tuple[Bundle, Policy]:
    from unet_pipeline.opening import policy_for

    bundle = _bundle(str(settings.model), store, trust=False)
    return bundle, policy_for(settings.gate, settings.limits, bundle)
