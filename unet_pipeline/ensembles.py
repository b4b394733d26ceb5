"""The model of a request that has members: bundles whose scores are averaged in each window.

All is decided once, from the mean: label, confidence, steps on labels. So members must agree in all
that comes before and after the network, and only the networks may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.model import Model, images_of
from unet_pipeline.networks.ensemble import ensemble_bundle
from unet_pipeline.opening import open_model
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.decision import described
from unet_pipeline.tiling.plan import SCORE_BYTES
from unet_pipeline.volume.options import brief


def open_first(settings: SegmentSettings, store: Store) -> Model:
    """Open the first model of a request, which may be an ensemble.

    Raises
    ------
    RequestError
        What ``open_model`` raises; ``models_alike`` for a member that is another one, too,
        ``models_differ`` for one that does not fit the first, ``depth_invalid``.
    """
    places = (settings.model, *settings.ensemble)
    models = [open_model(settings.with_model(place), store) for place in places]
    if len(models) == 1:
        return models[0]
    _check_depth(settings.depth)
    for other in models[1:]:
        _check_fits(models[0], other)
    bundle = ensemble_bundle([model.bundle for model in models])
    for one, same in pairwise(bundle.members):
        if (one.weights_digest, one.config_digest) == (same.weights_digest, same.config_digest):
            raise RequestError(
                "models_alike", subject=same.url, found=f"the network of {one.url} once more",
                wanted="members that differ: the mean of a network with itself is the network",
                remedy="Leave one of them out",
            )  # fmt: skip
    first = models[0]
    return _with_room(
        replace(first, bundle=bundle, spec=replace(first.spec, bundle=bundle)), models
    )


def _with_room(model: Model, models: Sequence[Model]) -> Model:
    """Reckon the memory of a whole volume by the largest network, and the sum of scores beside."""
    layout = model.policy.layout
    if layout is None or not layout.voxel_bytes:
        return model
    layouts = [one.policy.layout for one in models]
    most = max(one.voxel_bytes for one in layouts if one is not None)
    most += SCORE_BYTES * model.bundle.out_channels
    return replace(model, policy=replace(model.policy, layout=replace(layout, voxel_bytes=most)))


def _check_depth(depth: str | None) -> None:
    """Refuse to go as deep as each member needs: their scores would be of different heads."""
    if depth == "adaptive":
        raise RequestError(
            "depth_invalid", subject="--depth", found="adaptive, and an ensemble",
            wanted="a depth that is the same for all members and windows",
            remedy="Give a number or mean as --depth, or leave it out",
        )  # fmt: skip


def _check_fits(first: Model, other: Model) -> None:
    """Refuse a member whose scores mean something else than those of the first."""
    wanted = _said(first)
    for what, value in _said(other).items():
        if value != wanted[what]:
            mine, theirs = _apart(wanted[what], value)
            raise RequestError(
                "models_differ",
                subject=other.bundle.url,
                found=f"{what} {theirs}",
                wanted=f"{mine}, as {first.bundle.name} has: of the members of an ensemble only "
                "the networks may differ, for their scores are averaged in each window",
                remedy="Leave it out of the ensemble",
            )


def _said(model: Model) -> Mapping[str, Any]:
    """Return what the members of an ensemble must agree in, by its name in a message."""
    bundle, spec = model.bundle, model.spec
    return {
        "images:": images_of(bundle),
        "first stage:": _first_stage(model),
        "preprocessing:": model.steps,
        "windows of": "whole volumes" if bundle.whole else spec.roi_size,
        "sizes that are multiples of": spec.roi_size,
        "overlap of windows": model.overlap,
        "weights within windows:": spec.blend,
        "places of windows:": bundle.placement,
        "output channels:": bundle.out_channels,
        "decision of labels:": described(bundle.decision),
        "labels": bundle.labels,
        "steps on labels:": tuple(map(str, model.label_steps)),
    }


def _first_stage(model: Model) -> str:
    """Return what makes the label map that a cascade's networks are given."""
    if model.first_stage is None:
        return "none"
    first = model.first_stage.bundle
    return f"{first.name} ({first.weights_digest}, {first.config_digest})"


def _apart(mine: Any, theirs: Any) -> tuple[str, str]:
    """Return two values for a message; of lists and tables what the other has not."""
    if isinstance(mine, dict):
        mine, theirs = list(mine.items()), list(theirs.items())
    if isinstance(mine, tuple | list) and not all(isinstance(one, int) for one in mine):
        return _without(mine, theirs), _without(theirs, mine)
    return (mine, theirs) if isinstance(mine, str) else (brief(mine), brief(theirs))


def _without(some: Sequence[Any], others: Sequence[Any]) -> str:
    left = [one for one in some if one not in others]
    return ", ".join(map(brief, left)) or "nothing of it, or in another order"
