"""A file of models: it lists them and says how they go together, as a command line would.

::

    models: [organs, vessels, s3://models/ribs]   # --model, and --also for each further one
    within: liver:20
    combine: true

``ensemble: [a, b]`` stands for ``--model a --ensemble b``, with ``models`` as the further ones.
A model is a URL, a place relative to the file, or the name of a bundle that comes with the package.
Whoever opens a request reads the file once and goes on with the request that it stands for; what a
run may name is asked of that one, too (``permission.py``).
"""

from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, Field

from unet_pipeline.config.cohorts import SegmentSettings
from unet_pipeline.config.fields import Place, Settings, is_model_set
from unet_pipeline.config.sources import settings_of, unknown
from unet_pipeline.errors import RequestError, of_request
from unet_pipeline.networks.bundle import bundle_url
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import beside, redact

MOST_BYTES, MOST_MODELS = 2**16, 64

_S = TypeVar("_S", bound=SegmentSettings)


def _no_set(place: str) -> str:
    if is_model_set(place):
        raise ValueError("takes bundles, and no further file of models")
    return place


Member = Annotated[Place, AfterValidator(_no_set)]


class ModelSet(Settings):
    """What a file of models says; its values are held against the request's own fields, too."""

    models: tuple[Member, ...] = Field((), max_length=MOST_MODELS)
    ensemble: tuple[Member, ...] | None = Field(None, min_length=2, max_length=MOST_MODELS)
    within: str | None = None
    combine: bool = False


def with_models(settings: _S, store: Store) -> _S:
    """Return the request that a file of models stands for; any other as it is.

    Raises
    ------
    RequestError
        ``models_unreadable`` for a file that is no YAML mapping; ``setting_unknown`` and
        ``setting_invalid``, which name the key; what reading the file raises.
    """
    url = settings.model
    if not is_model_set(url):
        return settings
    said = _mapping(url, store)
    for name in said:
        if name not in ModelSet.model_fields:
            raise unknown(redact(url), str(name), [*ModelSet.model_fields])
    places: dict[tuple[str, ...], str] = {
        (name,): f"{name} in {redact(url)}" for name in ModelSet.model_fields
    }
    found = settings_of(ModelSet, places, **said)
    typed = {name: getattr(settings, name) for name in settings.model_fields_set}
    more = {name: said[name] for name in ("within", "combine") if name in said}
    return settings_of(type(settings), places, **{**typed, **_models_in(found, url), **more})


def _models_in(found: ModelSet, url: str) -> dict[str, Any]:
    """Return the fields of a request that name models."""
    models, members = ([_place_of(one, url) for one in some or ()]
                       for some in (found.models, found.ensemble))  # fmt: skip
    if members:
        return {"model": members[0], "ensemble": members[1:], "also": models}
    if not models:
        raise RequestError(
            "setting_invalid", subject=f"models in {redact(url)}", found="no model",
            wanted="a list of bundles", remedy="Compare it with docs/several-models.md",
        )  # fmt: skip
    return {"model": models[0], "also": models[1:]}


def _place_of(model: str, file: str) -> str:
    """Return where a model of a file lies: a relative place is one beside the file."""
    return model if bundle_url(model) != model else beside(file, model)


def _mapping(url: str, store: Store) -> dict[Any, Any]:
    with of_request():
        data = store.read_at_most(url, MOST_BYTES)
    try:
        said = yaml.safe_load(data.decode("utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(url, f"a file that cannot be read ({type(error).__name__})") from error
    if not isinstance(said, dict):
        raise _unreadable(url, "a file that is no mapping of names to values")
    return said


def _unreadable(url: str, found: str) -> RequestError:
    return RequestError(
        "models_unreadable",
        subject=redact(url),
        found=found,
        wanted="a list of models in YAML",
        remedy="Compare it with docs/several-models.md",
    )
