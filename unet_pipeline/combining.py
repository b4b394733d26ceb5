"""One label map of several models: whose label a voxel has, and how the labels are numbered.

The model that a request names first counts most: where it has a label, no other's is seen. Labels
are numbered anew in this order, so that no two models share a number.
"""

from collections.abc import Sequence
from dataclasses import replace

from unet_pipeline.model import Model
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.volume.combined import CombinedPart

COMBINED = "combined"  # the folder of these label maps, and what they call their model


def parts_of(bundles: Sequence[Bundle]) -> tuple[CombinedPart, ...]:
    """Return new numbers for the foreground labels of models, one model after another."""
    parts, next_number = [], 1
    for bundle in bundles:
        labels = bundle.foreground
        parts.append(
            CombinedPart(bundle.name, {one: next_number + n for n, one in enumerate(labels)})
        )
        next_number += len(labels)
    return tuple(parts)


def combined_model(models: Sequence[Model]) -> Model:
    """Return what stands for a model where label maps are combined: names, and no network of it."""
    bundles = [model.bundle for model in models]
    names = [name for bundle in bundles for name in map(bundle.labels.get, bundle.foreground)]
    labels = {0: models[0].bundle.labels.get(0, "background")}
    for part, bundle in zip(parts_of(bundles), bundles, strict=True):
        for own, number in part.numbers.items():
            name = bundle.labels[own]
            labels[number] = name if names.count(name) == 1 else f"{bundle.name} {name}"
    first = models[0]
    bundle = replace(
        first.bundle,
        name=COMBINED,
        labels=labels,
        weights_digest=digest_json(COMBINED),
        label_steps=(),
        not_done=(),
        members=(),
        first_stage=None,
    )
    policy = replace(first.policy, labels=frozenset(labels))
    spec = replace(first.spec, bundle=bundle)
    made = replace(first, bundle=bundle, steps=(), spec=spec, policy=policy, label_steps=())
    return replace(made, first_stage=None)
