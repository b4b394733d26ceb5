"""What the records of a run say that it is made with, and what of that decides a label."""

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import unet_pipeline
from unet_pipeline.config import (
    SegmentSettings,
)
from unet_pipeline.inference.engine_choice import EngineChoice
from unet_pipeline.model import Model
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.sidecar import FORMAT, MemberFacts, RunFacts
from unet_pipeline.stores import open_store as open_store
from unet_pipeline.tiling.decision import described
from unet_pipeline.volume.region import Region

_VERSIONS = ("torch", "monai", "nibabel", "numpy", "dask", "distributed")


def _limit(model: Model) -> float | None:
    rule = model.bundle.adaptive
    return rule.limit if rule is not None and model.spec.depth == "adaptive" else None


def facts_within(facts: RunFacts, region: Region, first: RunFacts) -> RunFacts:
    """Add what decides the region: the first model, as it is run."""
    within = {
        "labels": list(region.labels),
        "margin_mm": region.margin_mm,
        "weights": first.weights,
        "settings": first.settings_digest,
    }
    settings = {**facts.settings, "within": within}
    return replace(facts, settings=settings, settings_digest=digest_json(settings))


def _first_stage(model: Model, asked: SegmentSettings) -> dict[str, Any]:
    """Return what decides the labels that a second stage is given; nothing for a model alone."""
    if model.first_stage is None:
        return {}
    facts = facts_of("", model.first_stage, asked)
    return {
        "first_stage": {"model": facts.model, "weights": facts.weights, "settings": facts.settings}
    }


def facts_of(run_id: str, model: Model, asked: SegmentSettings) -> RunFacts:
    """Return what all sidecars say. Tile and workers are not in the digest: labels ignore them.

    The engine is in the digest as it was asked for, and not the one that was chosen: a night that
    another machine finishes must not begin again because ``auto`` chose otherwise there.
    """
    bundle, spec, engine = model.bundle, model.spec, asked.windows.engine
    members = [{"weights": m.weights_digest, "config": m.config_digest} for m in bundle.members]
    settings = {
        "format": FORMAT,
        "roi_size": "whole" if bundle.whole else list(spec.roi_size),
        "overlap": model.overlap,
        "blend": spec.blend,
        "batch": spec.batch,
        "engine": engine,
        "threads": spec.threads,
        "bundle_config": bundle.config_digest,
        **({"ensemble": members} if members else {}),
        "decision": described(bundle.decision),
        "remedies": sorted(model.policy.fixes),
        **({} if model.policy.volume is None else {"volume": model.policy.volume}),
        **({"level": model.policy.level} if model.policy.level else {}),
        **({"postprocess": list(map(str, model.label_steps))} if model.label_steps else {}),
        **({} if asked.output_format == "nifti" else {"output_format": asked.output_format}),
        **({"confidence": "map"} if asked.confidence == "map" else {}),
        "depth": spec.depth,
        "mirror": list(spec.mirror),
        "adaptive_limit": _limit(model),
        **_first_stage(model, asked),
    }
    return RunFacts(
        run_id,
        model=bundle.name,
        weights=bundle.weights_digest,
        settings=settings,
        settings_digest=digest_json(settings),
        engine=EngineChoice(engine, spec.engine).as_dict(),
        labels={str(number): name for number, name in bundle.labels.items()},
        versions={
            "unet_pipeline": unet_pipeline.__version__,
            **{name: version(name) for name in _VERSIONS},
        },
        postprocessing_ignored=tuple(bundle.not_done),
        members=tuple(
            MemberFacts(one.name, one.weights_digest, one.config_digest) for one in bundle.members
        ),
    )
