"""What requests about a cohort have in common: its cases, and what one of them asks of workers."""

from dataclasses import replace
from datetime import UTC, datetime
from secrets import token_hex

from unet_pipeline.config import (
    CheckSettings,
    CostSettings,
    SegmentSettings,
)
from unet_pipeline.config.model_sets import with_models
from unet_pipeline.gate.examine import Examined
from unet_pipeline.gate.workload import workload_of
from unet_pipeline.model import Model
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.opened import bundle_of
from unet_pipeline.records import Case, Rate
from unet_pipeline.scratch import scratch_name
from unet_pipeline.storage.cases import Cohort
from unet_pipeline.storage.claims import Claim
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.sidecar import RunFacts
from unet_pipeline.storage.store import Store
from unet_pipeline.stores import open_store as open_store
from unet_pipeline.tasks import is_alone, plan_volume
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.volume.header import Header
from unet_pipeline.volume.steps import Prepared, prepare
from unet_pipeline.volume.views import ShapeOnly
from unet_pipeline.volume_job import FirstStage, VolumeJob


def cohort_of(
    settings: SegmentSettings | CheckSettings, store: Store, bundle: Bundle | None
) -> Cohort:
    """List the cohort that settings name, for a network if there is one.

    Raises
    ------
    RequestError
        As ``discover``.
    """
    return discover(
        store,
        settings.images,
        settings.masks,
        mask_pattern=settings.mask_pattern,
        channels=None if bundle is None else bundle.channels,
        labels=None if bundle is None else bundle.labels,
        require_masks=isinstance(settings, CheckSettings) or settings.require_masks,
    )


def list_cohort(settings: SegmentSettings | CheckSettings) -> Cohort:
    """List a cohort as ``segment`` or ``check`` would take it; nothing else is done."""
    store = open_store(settings.storage)
    if isinstance(settings, SegmentSettings):
        settings = with_models(settings, store)
    return cohort_of(settings, store, bundle_of(settings, store))


def new_run_id() -> str:
    """Return a sortable identifier of a run, e.g. ``20261121T013000Z-3f2a07c1``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(4)}"  # many begin in one second


def rate_of(settings: CostSettings) -> Rate | None:
    """Return what an hour of a worker costs; None if nobody has said."""
    hourly = settings.hourly_rate
    return None if hourly is None else Rate(hourly, settings.currency)


def job_of(
    settings: SegmentSettings,
    model: Model,
    case: Case,
    examined: Examined,
    facts: RunFacts | None = None,
    claim: Claim | None = None,
) -> VolumeJob:
    """Return what one case that passed the gate asks of the workers.

    Without facts of the run and a claim nothing can be written.
    """
    layout, spec, first = model.policy.layout, model.spec, model.first_stage
    if layout is not None and layout.stride is not None and examined.header is not None:
        spec = replace(spec, roi_size=workload_of(examined.header.grid, layout).window)
    return VolumeJob(
        case=case.name,
        images=case.images,
        mask=case.mask,
        parts=case.parts,
        claim=claim,
        store=spec.store,
        spec=spec,
        steps=model.steps,
        overlap=model.overlap,
        tile=settings.windows.tile,
        memory_bytes=int(settings.budget.memory_gb * 1e9),
        facts=facts,
        label_steps=model.label_steps,
        policy=model.policy,
        examined=examined,
        content=settings.gate.content,
        output_format=settings.output_format,
        confidence=settings.confidence,
        scratch=scratch_name(settings.budget.scratch),
        first_stage=None if first is None else FirstStage(first.spec, first.steps, first.overlap),
    )


def fits_one_tile(job: VolumeJob, header: Header) -> bool | None:
    """Say from the header alone whether a case is one tile; None where only a plan can tell."""
    prepared = _prepared(job, header)
    return False if prepared is None else is_alone(prepared, job)


def is_one_tile(job: VolumeJob, header: Header) -> bool:
    """Plan a volume before a voxel is read, and say whether it is one tile."""
    plan = plan_from_header(job, header)
    return plan is not None and plan.n_tiles == 1


def plan_from_header(job: VolumeJob, header: Header) -> TilePlan | None:
    """Plan a volume before a voxel is read; None if the bundle crops to what the voxels show."""
    prepared = _prepared(job, header)
    return None if prepared is None else plan_volume(prepared, job)


def _prepared(job: VolumeJob, header: Header) -> Prepared | None:
    if any(step.needs_voxels for step in job.steps):
        return None
    shape = ShapeOnly(header.grid.shape, max(len(job.images), header.volumes))
    geometry = [step for step in job.steps if not step.measures]
    return prepare(geometry, shape, header.grid)
