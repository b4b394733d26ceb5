"""A request, checked: everything that can be wrong with it is found here, before any work."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any, cast
from uuid import uuid4

import unet_pipeline
from unet_pipeline.config import (
    Budget,
    CostSettings,
    GateSettings,
    SegmentSettings,
    StorageSettings,
)
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.gate.findings import Tolerance
from unet_pipeline.inference.choice import Asked, Choice
from unet_pipeline.inference.importance import Blend
from unet_pipeline.inference.predictor import ModelSpec
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.pruning import Depth, at_depth
from unet_pipeline.networks.registry import check_smallest_window, check_window
from unet_pipeline.networks.trusted import check_promise
from unet_pipeline.records import Case, Rate
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.ledger import FORMAT, digest_json
from unet_pipeline.storage.store import StorageOptions, Store, join
from unet_pipeline.tasks import VolumeJob, plan_volume
from unet_pipeline.tiling.decision import Highest, described
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.volume.nifti_header import NiftiHeader
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.steps import Step, prepare
from unet_pipeline.volume.views import ShapeOnly

log = logging.getLogger(__name__)

_VERSIONS = ("torch", "monai", "nibabel", "numpy", "dask", "distributed")


@dataclass(frozen=True)
class Model:
    """A bundle, ready to be run with the settings of a request."""

    bundle: Bundle
    steps: tuple[Step, ...]
    spec: ModelSpec
    overlap: float
    policy: Policy


@dataclass(frozen=True)
class Run:
    """A checked request.

    Attributes
    ----------
    cases
        What is to be segmented.
    faults
        Cases that were at fault already when the cohort was listed.
    record
        What every sidecar of this run says.
    engine
        What executes the network, once that is chosen.
    """

    run_id: str
    settings: SegmentSettings
    store: Store
    model: Model
    cases: tuple[Case, ...]
    faults: tuple[tuple[Case, CaseError], ...]
    record: Mapping[str, Any]
    engine: Choice | None = None

    @property
    def folder(self) -> str:
        """URL of the folder of this run's table and report."""
        return join(self.settings.output, "runs", self.run_id)

    def output_of(self, case: Case) -> str:
        """Return the URL of a case's output, without suffix."""
        return join(self.settings.output, case.output_name)


def open_run(settings: SegmentSettings) -> Run:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        For storage that cannot be reached or written, a bundle that cannot be used, settings that
        do not fit it, or a cohort without a case.
    """
    _check_time_limit(settings)
    store = open_store(settings.storage)
    model = open_model(settings, store)
    # so that not every worker finds out that weights do not fit, or that there is no such depth
    network = load_network(model.bundle, store)
    check_smallest_window(network, model.bundle.network_def, model.bundle.in_plane_roi)
    if model.bundle.own_network:
        check_promise(network, model.bundle)
    at_depth(network, model.spec.depth, model.bundle.adaptive)
    cohort = discover(store, settings.images, settings.masks)
    store.check_writable(settings.output)
    run_id = new_run_id()
    record = _record(run_id, model, settings.windows.engine)
    return Run(run_id, settings, store, model, cohort.cases, cohort.faults, record)


def _check_time_limit(settings: SegmentSettings) -> None:
    asked = settings.budget.case_minutes != Budget().case_minutes
    if asked and settings.cluster.kind == "serial":
        log.warning("cases have no time limit with cluster serial: case_minutes is for Dask's")


def new_run_id() -> str:
    """Return a sortable identifier of a run, e.g. ``20261121T013000Z-3f2a``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(2)}"


def policy_of(
    settings: GateSettings, bundle: Bundle | None = None, budget: Budget | None = None
) -> Policy:
    """Return what the gate holds the cases of a request against."""
    return Policy(
        Tolerance(affine_voxels=settings.affine_voxels),
        frozenset(settings.remedies),
        None if bundle is None else bundle.in_channels,
        None if bundle is None else frozenset(bundle.labels),
        int(1e9 * (budget or Budget()).max_volume_gb),
    )


def rate_of(settings: CostSettings) -> Rate | None:
    """Return what an hour of a worker costs; None if nobody has said."""
    hourly = settings.hourly_rate
    return None if hourly is None else Rate(hourly, settings.currency)


def open_store(storage: StorageSettings) -> Store:
    """Return a store with these settings."""
    return Store(
        StorageOptions(
            endpoint_url=storage.endpoint_url,
            profile=storage.profile,
            region=storage.region,
            allowed=storage.allow,
        )
    )


def open_model(settings: SegmentSettings, store: Store) -> Model:
    """Read a bundle and check that it can be run with these settings."""
    bundle = load_bundle(settings.model, store, trust=settings.trust)
    steps = parse_preprocessing(bundle.preprocessing)
    check_window(bundle.network_def, bundle.in_plane_roi)
    _check_decision(bundle, settings.depth)
    windows, overlap = settings.windows, settings.windows.overlap
    spec = ModelSpec(
        bundle=bundle,
        store=store,
        roi_size=bundle.roi_size,
        blend=cast(Blend, windows.blend or bundle.blend),
        batch=windows.batch,
        threads=settings.cluster.threads,
        device="cuda" if settings.cluster.kind == "cuda" else "auto",
        depth=_depth(settings.depth),
        mirror=_mirror(bundle, windows.mirror),
    )
    overlap = bundle.overlap if overlap is None else overlap
    return Model(bundle, steps, spec, overlap, policy_of(settings.gate, bundle, settings.budget))


def _check_decision(bundle: Bundle, depth: str | None) -> None:
    """Refuse what the highest score decides wrongly, and what only it can decide."""
    if len(bundle.labels) < 2:
        raise RequestError(
            "classes_invalid",
            subject=bundle.name,
            found="a single output channel, and no threshold that decides it",
            wanted="one channel per label, background included, or sigmoid and a threshold",
            remedy="Write AsDiscreted with its threshold into the bundle's postprocessing",
        )
    if depth in ("mean", "adaptive") and not isinstance(bundle.decision, Highest):
        raise RequestError(
            "depth_invalid",
            subject=bundle.name,
            found=f"--depth {depth}, and channels that are decided one by one",
            wanted="channels that exclude each other: it is about their probabilities (softmax)",
            remedy="Give a number as --depth, or leave it out",
        )


def _mirror(bundle: Bundle, letters: str | None) -> tuple[int, ...]:
    """Return the axes that ``x,z`` names, each once, in order; those that the network learnt."""
    axes = tuple(axis for axis, letter in enumerate("xyz") if letter in (letters or ""))
    learnt = bundle.mirror_axes
    if learnt is not None and not set(axes) <= set(learnt):
        known = ",".join("xyz"[axis] for axis in learnt)
        raise RequestError(
            "mirror_invalid",
            subject=bundle.name,
            found=f"--mirror {letters}, and a network that was not trained for all of these axes",
            wanted=f"axes out of {known}" if known else "no mirroring",
            remedy=f"Say --mirror {known}" if known else "Leave --mirror out",
        )
    return axes


def _limit(model: Model) -> float | None:
    rule = model.bundle.adaptive
    return rule.limit if rule is not None and model.spec.depth == "adaptive" else None


def _depth(setting: str | None) -> Depth | None:
    if setting in (None, "mean", "adaptive"):
        return cast(Depth | None, setting)
    return int(setting or 0)


def job_of(
    settings: SegmentSettings,
    model: Model,
    case: Case,
    record: Mapping[str, Any],
    examined: Examined,
) -> VolumeJob:
    """Return what one case that passed the gate asks of the workers."""
    return VolumeJob(
        case=case.name,
        images=case.images,
        mask=case.mask,
        output=join(settings.output, case.output_name),
        store=model.spec.store,
        spec=model.spec,
        steps=model.steps,
        overlap=model.overlap,
        tile=settings.windows.tile,
        memory_bytes=int(settings.budget.memory_gb * 1e9),
        record=record,
        policy=model.policy,
        examined=examined,
        content=settings.gate.content,
        scratch=_scratch_folder(settings.budget.scratch),
    )


def _scratch_folder(scratch: str | None) -> str:
    """Return the folder of one case, which is removed with the case."""
    return str(Path(scratch or tempfile.gettempdir()) / f"unet-pipeline-{uuid4().hex}")


def plan_from_header(job: VolumeJob, header: NiftiHeader) -> TilePlan | None:
    """Plan a volume before a voxel is read; None if the bundle crops to what the voxels show."""
    if any(step.needs_voxels for step in job.steps):
        return None
    shape = ShapeOnly(header.grid.shape, len(job.images))
    geometry = [step for step in job.steps if not step.measures]
    return plan_volume(prepare(geometry, shape, header.grid), job)


def _record(run_id: str, model: Model, engine: Asked) -> dict[str, Any]:
    """Return what all sidecars say. Tile and workers are not in the digest: labels ignore them.

    The engine is in the digest as it was asked for, and not the one that was chosen: a night that
    another machine finishes must not begin again because ``auto`` chose otherwise there.
    """
    numerics = {
        "format": FORMAT,
        "roi_size": model.spec.roi_size,
        "overlap": model.overlap,
        "blend": model.spec.blend,
        "batch": model.spec.batch,
        "engine": engine,
        "threads": model.spec.threads,
        "bundle_config": model.bundle.config_digest,
        "decision": described(model.bundle.decision),
        "remedies": sorted(model.policy.fixes),
        "depth": model.spec.depth,
        "mirror": model.spec.mirror,
        "adaptive_limit": _limit(model),
    }
    return {
        "format": FORMAT,
        "run_id": run_id,
        "model": model.bundle.name,
        "weights": model.bundle.weights_digest,
        "settings": numerics,
        "settings_digest": digest_json(numerics),
        "engine": Choice(engine, model.spec.engine).as_dict(),
        "labels": {str(number): name for number, name in model.bundle.labels.items()},
        "versions": {
            "unet_pipeline": unet_pipeline.__version__,
            **{name: version(name) for name in _VERSIONS},
        },
    }
