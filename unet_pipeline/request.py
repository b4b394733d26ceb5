"""A request, checked: everything that can be wrong with it is found here, before any work."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from secrets import token_hex

import unet_pipeline
from unet_pipeline.combining import COMBINED, combined_model, parts_of
from unet_pipeline.comparing import LabelMapUrl, finished_before
from unet_pipeline.config import (
    CheckSettings,
    CostSettings,
    SegmentSettings,
)
from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Examined
from unet_pipeline.gate.workload import workload_of
from unet_pipeline.inference.choice import EngineChoice
from unet_pipeline.layouts import SIMPLE, Layout, open_layout, write_dataset
from unet_pipeline.model import Model, names_clash, names_of, open_model, open_network, region_of
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.records import Case, Rate
from unet_pipeline.scratch import scratch_path
from unet_pipeline.storage.accounting import Accounting
from unet_pipeline.storage.cases import Cohort
from unet_pipeline.storage.claims import RECORD, Claim, refuse_inputs
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.formats import LABEL_MAPS
from unet_pipeline.storage.label_maps import CONFIDENCE_MAP, endings_of
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.other_models import refuse_other_models
from unet_pipeline.storage.sidecar import FORMAT, MaskFault, RunFacts
from unet_pipeline.storage.store import Store, join
from unet_pipeline.stores import open_store as open_store
from unet_pipeline.tasks import VolumeJob, is_alone, plan_volume
from unet_pipeline.tiling.decision import described
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.volume.combined import CombinedPart
from unet_pipeline.volume.header import Header
from unet_pipeline.volume.region import Region
from unet_pipeline.volume.steps import Prepared, prepare
from unet_pipeline.volume.views import ShapeOnly

log = logging.getLogger(__name__)

_VERSIONS = ("torch", "monai", "nibabel", "numpy", "dask", "distributed")


@dataclass(frozen=True)
class Run:
    """A checked request.

    Attributes
    ----------
    cases
        What is to be segmented.
    faults
        Cases that were at fault already when the cohort was listed.
    facts
        What every sidecar of this run says.
    engine
        What executes the network, once that is chosen.
    accounting
        What became of all files that were listed.
    mask_faults
        Why cases have no mask though masks were asked for, by case name.
    layout
        How label maps are called.
    also
        Runs of further models over the same cases.
    region
        Where the model looks, of each case; None for whole volumes.
    first
        The run whose label maps say so.
    parts
        Of which label maps those of this run are made, if no network makes them.
    model_name
        Folder of the model's results below the output; empty for the only model.
    old
        The label maps that those of this run are held against, by case; None for none.
    """

    run_id: str
    settings: SegmentSettings
    store: Store
    model: Model
    cases: tuple[Case, ...]
    faults: tuple[tuple[Case, CaseError], ...]
    facts: RunFacts
    engine: EngineChoice | None = None
    accounting: Accounting | None = None
    mask_faults: Mapping[str, MaskFault] = field(default_factory=dict)
    layout: Layout = SIMPLE
    also: tuple["Run", ...] = ()
    region: Region | None = None
    first: "Run | None" = None
    parts: tuple[tuple["Run", CombinedPart], ...] = ()
    model_name: str = ""

    @property
    def each(self) -> tuple["Run", ...]:
        """The runs of all models, this one first."""
        return (self, *self.also)

    old: Mapping[str, LabelMapUrl] | None = None

    @property
    def folder(self) -> str:
        """URL of the folder of this run's table and report."""
        return join(self.settings.output, "runs", self.run_id)

    def output_of(self, case: Case) -> str:
        """Return the URL of a case's output, without suffix."""
        return join(self.settings.output, self.layout.name_of(case))

    def region_of(self, case: Case) -> Region | None:
        """Return where the model looks at a case."""
        if self.region is None or self.first is None:
            return None
        label_map = f"{self.first.output_of(case)}{self.first.endings[0]}"
        return replace(self.region, label_map=label_map)

    def parts_of(self, case: Case) -> tuple[CombinedPart, ...]:
        """Return of which label maps that of a case is made, if no network makes it."""
        return tuple(
            replace(part, label_map=f"{run.output_of(case)}{run.endings[0]}")
            for run, part in self.parts
        )

    @property
    def endings(self) -> tuple[str, str]:
        """What the URLs of a case's label map and picture end with, behind ``output_of``."""
        return endings_of(self.settings.output_format)

    @property
    def all_endings(self) -> tuple[str, ...]:
        """What the URLs of all files of a case but its record end with."""
        has_map = self.settings.confidence == "map"
        return (*self.endings, *([CONFIDENCE_MAP] if has_map else []))


def open_segment(settings: SegmentSettings) -> Run:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        For storage that cannot be reached or written, a bundle that cannot be used, settings that
        do not fit it, a cohort without a case, or an output that is also an input, or that has
        label maps of another model.
    """
    settings = settings.in_version()
    store = open_store(settings.storage)
    asked = [settings.with_model(model) for model in (settings.model, *settings.also)]
    models = [_keeping(len(asked), open_model(one, store)) for one in asked]
    for model in models:
        open_network(model)  # so that not every worker finds out that weights do not fit
    region = region_of(settings.within, models[0].bundle)
    cohort = cohort_of(settings, store, models[0].bundle)
    opened = []
    for one, model, name in zip(asked, models, names_of(models), strict=True):
        output = join(settings.output, name) if name else settings.output
        store.check_writable(output)
        mine = one.model_copy(update={"output": output, "compare_with": _old_of(one, name, store)})
        opened.append((mine, model, name, *open_layout(mine, store, model.bundle, cohort)))
    refuse_inputs(
        (
            f"{join(mine.output, layout.name_of(case))}{ending}"
            for mine, _, _, layout, cohort in opened
            for case in cohort.cases
            for ending in (*LABEL_MAPS.values(), CONFIDENCE_MAP)
        ),
        (url for case in cohort.cases for url in (*case.images, *case.mask_files)),
    )
    run_id = new_run_id()
    first = _run(run_id, store, *opened[0])
    also = [_run(run_id, store, *one, region=region, first=first) for one in opened[1:]]
    if settings.combine:
        also.append(_combined(settings, (first, *also), cohort))
    for run in (first, *also):
        write_dataset(run.settings, store, run.model.bundle, run.layout)
    return replace(first, also=tuple(also))


def _combined(settings: SegmentSettings, runs: Sequence[Run], cohort: Cohort) -> Run:
    """Return the run that makes one label map of those of all models."""
    first, output = runs[0], join(settings.output, COMBINED)
    if any(run.model_name == COMBINED for run in runs):
        raise names_clash(COMBINED, settings.output)
    first.store.check_writable(output)
    model = combined_model([run.model for run in runs])
    parts = parts_of([run.model.bundle for run in runs])
    asked = settings.with_model(settings.model).model_copy(
        update={"output": output, "compare_with": _old_of(settings, COMBINED, first.store)}
    )
    layout, cohort = open_layout(asked, first.store, model.bundle, cohort)
    run = _run(first.run_id, first.store, asked, model, COMBINED, layout, cohort)
    made_of = [
        {"weights": one.facts.weights, "settings": one.facts.settings_digest,
         "labels": {str(own): number for own, number in part.numbers.items()}}
        for one, part in zip(runs, parts, strict=True)
    ]  # fmt: skip
    settings_of_labels = {"format": FORMAT, "combined": made_of}
    facts = replace(
        run.facts, settings=settings_of_labels, settings_digest=digest_json(settings_of_labels)
    )
    return replace(run, facts=facts, parts=tuple(zip(runs, parts, strict=True)))


def _old_of(settings: SegmentSettings, model: str, store: Store) -> str | None:
    """Return what label maps are held against: of several models the folder of its name."""
    if not settings.compare_with or not model:
        return settings.compare_with
    own = join(settings.compare_with, model)
    return own if store.exists(own) else settings.compare_with


def _keeping(networks: int, model: Model) -> Model:
    return replace(model, spec=replace(model.spec, kept=networks))


def _run(
    run_id: str,
    store: Store,
    settings: SegmentSettings,
    model: Model,
    name: str,
    layout: Layout,
    cohort: Cohort,
    region: Region | None = None,
    first: Run | None = None,
) -> Run:
    facts = _facts(run_id, model, settings)
    if region is not None and first is not None:
        facts = _within(facts, region, first.facts)
    records = [join(settings.output, f"{layout.name_of(case)}{RECORD}") for case in cohort.cases]
    if not settings.replace:
        refuse_other_models(store, facts, records)
    old = None
    if settings.compare_with:
        names = [case.name for case in cohort.cases]
        old = finished_before(store, settings.compare_with, settings.output, records, names)
    return Run(
        run_id,
        settings,
        store,
        model,
        cohort.cases,
        cohort.faults,
        facts,
        accounting=cohort.accounting,
        mask_faults={
            case.name: MaskFault(error.code, str(error.about(case.name)))
            for case, error in cohort.mask_faults
            if case.images
        },
        layout=layout,
        region=region,
        first=None if region is None else first,
        model_name=name,
        old=old,
    )


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
    trust = isinstance(settings, SegmentSettings) and settings.trust
    bundle = load_bundle(settings.model, store, trust=trust) if settings.model else None
    return cohort_of(settings, store, bundle)


def new_run_id() -> str:
    """Return a sortable identifier of a run, e.g. ``20261121T013000Z-3f2a``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(2)}"


def rate_of(settings: CostSettings) -> Rate | None:
    """Return what an hour of a worker costs; None if nobody has said."""
    hourly = settings.hourly_rate
    return None if hourly is None else Rate(hourly, settings.currency)


def _limit(model: Model) -> float | None:
    rule = model.bundle.adaptive
    return rule.limit if rule is not None and model.spec.depth == "adaptive" else None


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
    layout, spec = model.policy.layout, model.spec
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
        scratch=str(scratch_path(settings.budget.scratch)),
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


def _within(facts: RunFacts, region: Region, first: RunFacts) -> RunFacts:
    """Add what decides the region: the first model, as it is run."""
    within = {
        "labels": list(region.labels),
        "margin_mm": region.margin_mm,
        "weights": first.weights,
        "settings": first.settings_digest,
    }
    settings = {**facts.settings, "within": within}
    return replace(facts, settings=settings, settings_digest=digest_json(settings))


def _facts(run_id: str, model: Model, asked: SegmentSettings) -> RunFacts:
    """Return what all sidecars say. Tile and workers are not in the digest: labels ignore them.

    The engine is in the digest as it was asked for, and not the one that was chosen: a night that
    another machine finishes must not begin again because ``auto`` chose otherwise there.
    """
    bundle, spec, engine = model.bundle, model.spec, asked.windows.engine
    settings = {
        "format": FORMAT,
        "roi_size": "whole" if bundle.whole else list(spec.roi_size),
        "overlap": model.overlap,
        "blend": spec.blend,
        "batch": spec.batch,
        "engine": engine,
        "threads": spec.threads,
        "bundle_config": bundle.config_digest,
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
    )
