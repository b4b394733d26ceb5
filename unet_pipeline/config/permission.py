"""Whether a run names only what its worker was allowed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from unet_pipeline.config.allowed import VARIABLE, Allowed
from unet_pipeline.config.cohorts import SegmentSettings
from unet_pipeline.config.evaluation import NAMED
from unet_pipeline.config.fields import is_model_set
from unet_pipeline.config.parts import StorageSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.storage.store import StorageOptions, Store
from unet_pipeline.storage.urls import canonical, fixed_part, is_below, protocol_of

# Fields of all requests, by what they name.
PLACES = frozenset(
    {
        "images",
        "masks",
        "model",
        "models",
        "also",
        "ensemble",
        "output",
        "fix",
        "allow",
        "scratch",
        "compare_with",
    }
)
FILES = frozenset({"site", "tls"})
BUNDLES = frozenset({"model", "models", "also", "ensemble"})
_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_S = TypeVar("_S", bound=BaseModel)


def check_allowed(settings: _S, allowed: Allowed) -> _S:
    """Refuse a request that names what its worker was not allowed.

    Returns
    -------
    BaseModel
        The request to go on with. A file of models is read here and not again: whoever could
        change it meanwhile would have models run that nobody was asked about.

    Raises
    ------
    RequestError
        ``endpoint_not_allowed``, ``prefix_not_allowed``, ``cluster_not_allowed``,
        ``file_not_allowed``, ``profile_not_allowed``; ``trust_not_allowed`` for a bundle whose own
        code may not run; what ``with_models`` raises.
    """
    _check_named(settings, allowed)
    if isinstance(settings, SegmentSettings) and is_model_set(settings.model):
        from unet_pipeline.config.model_sets import with_models  # imports torch

        settings = with_models(settings, _store_of(settings))
        _check_named(settings, allowed)
    if getattr(settings, "trust", False):
        models = [
            _bundle_of(v) if n == "models" else v for n, v in _named(settings) if n in BUNDLES
        ]
        _check_trust(models, settings, allowed.trust)
    return settings


def _check_named(settings: BaseModel, allowed: Allowed) -> None:
    """Refuse a text of a request that names what may not be named."""
    for name, value in _named(settings):
        if name == "endpoint_url":
            _check("endpoint", value, value.rstrip("/") in _stripped(allowed.endpoints))
        elif name == "profile":
            _check("profile", value, value in allowed.profiles)
        elif name == "kind" and "://" in value:
            _check("cluster", value, value in allowed.clusters)
        elif name in FILES:
            _check("file", value, value in allowed.files)
        elif name in PLACES:
            place = _bundle_of(value) if name == "models" else value
            by_name = name in BUNDLES and _BARE.fullmatch(place)  # of the package, or of none
            _check("prefix", place, bool(by_name) or _lies_in(place, allowed.prefixes))


def _named(settings: BaseModel) -> list[tuple[str, str]]:
    return [(name, value) for name, value in _texts(settings) if value]


def _store_of(settings: BaseModel) -> Store:
    storage = getattr(settings, "storage", StorageSettings())
    return Store(
        StorageOptions(storage.endpoint_url, profile=storage.profile, region=storage.region)
    )


def _check_trust(models: list[str], settings: BaseModel, trusted: frozenset[str]) -> None:
    """Refuse bundles whose own code nobody allowed; by name, or else by what is in them now."""
    from unet_pipeline.networks.pinned import trust_digest  # imports torch

    store = _store_of(settings)
    for model in models:
        if model.rstrip("/") not in _stripped(trusted):
            digest = trust_digest(model, store)
            _check("trust", f"{model} ({digest})", digest in trusted)


def _check(kind: str, value: str, is_allowed: bool) -> None:
    if not is_allowed:
        raise RequestError(
            f"{kind}_not_allowed",
            subject=value,
            found=f"a run that names {_A[kind]} which its worker was not allowed",
            wanted=f"one of {VARIABLE[kind]}, in the environment of the worker",
            remedy=f"Whoever starts the worker may add it there, or say "
            f"`unet-pipeline up --allow-{kind} ...`",
        )


_A = {
    "trust": "a bundle whose own code shall run, and", "endpoint": "an S3 endpoint",
    "prefix": "a place", "cluster": "a Dask scheduler", "file": "a site file or certificates",
    "profile": "a profile of AWS keys",
}  # fmt: skip


def _lies_in(place: str, prefixes: tuple[str, ...]) -> bool:
    """Say whether a place lies in a prefix, links followed; what is hidden there does not."""
    if protocol_of(place) == "file":
        real = Path(fixed_part(place)).resolve()
        return any(
            protocol_of(prefix) == "file" and _is_seen(real, Path(canonical(prefix)).resolve())
            for prefix in prefixes
        )
    if ".." in place.split("/"):  # object stores take it as it stands, others follow it
        return False
    start = fixed_part(place)
    return any(
        start.startswith(prefix) if prefix.endswith("://") else is_below(start, prefix)
        for prefix in prefixes
    )


def _is_seen(path: Path, folder: Path) -> bool:
    """Say whether a path is a folder or lies in it, with no hidden part in between."""
    if not path.is_relative_to(folder):
        return False
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _bundle_of(candidate: str) -> str:
    """Return the bundle of ``NAME=BUNDLE``."""
    named = NAMED.fullmatch(candidate)
    return named["model"] if named else candidate


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts of a request, with the names of their fields."""
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _texts(getattr(value, field), field)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, name)
    elif isinstance(value, str):
        yield name, value


def _stripped(values: frozenset[str]) -> frozenset[str]:
    return frozenset(value.rstrip("/") for value in values)
