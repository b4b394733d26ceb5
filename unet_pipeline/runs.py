"""A run of ``segment``: its request, checked. All that can be wrong is found before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from unet_pipeline.combining import COMBINED, combined_model, parts_of
from unet_pipeline.comparing import LabelMapUrl, finished_before
from unet_pipeline.config import (
    SegmentSettings,
)
from unet_pipeline.config.model_sets import with_models
from unet_pipeline.errors import CaseError
from unet_pipeline.inference.engine_choice import EngineChoice
from unet_pipeline.layouts import SIMPLE, Layout, open_layout, write_dataset
from unet_pipeline.model import Model, names_clash, names_of, region_of
from unet_pipeline.nights import marks_of_inputs, night_of
from unet_pipeline.opened import open_models
from unet_pipeline.records import Case, CaseRecord
from unet_pipeline.request import cohort_of, new_run_id, rate_of
from unet_pipeline.run_end import RunEnd
from unet_pipeline.run_facts import facts_of, facts_within
from unet_pipeline.storage.accounting import Accounting
from unet_pipeline.storage.cases import Cohort
from unet_pipeline.storage.claims import RECORD, refuse_inputs
from unet_pipeline.storage.formats import LABEL_MAPS
from unet_pipeline.storage.label_maps import CONFIDENCE_MAP, endings_of
from unet_pipeline.storage.leases import Leases
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.marks import Marks
from unet_pipeline.storage.meeting import meet
from unet_pipeline.storage.night import Night
from unet_pipeline.storage.other_models import refuse_other_models
from unet_pipeline.storage.presence import Presence
from unet_pipeline.storage.sidecar import FORMAT, MaskFault, RunFacts
from unet_pipeline.storage.store import Store, join
from unet_pipeline.stores import open_store as open_store
from unet_pipeline.volume.combined import CombinedPart
from unet_pipeline.volume.region import Region


@dataclass(frozen=True)
class Run:
    """A checked request.

    Attributes
    ----------
    cases
        What is to be segmented, in this order: by priority, else as the cohort has them.
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
    night
        What is known of the cases before they are looked at.
    old
        The label maps that those of this run are held against, by case; None for none.
    end
        When no further case is begun.
    elsewhere
        Names of the cohort's cases that are in other parts of it (``--shard``).
    leases
        The cases that this run has, where others may work on its output; None before it begins.
    memory_steps
        In what it takes less memory than was asked for, after deaths of workers.
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

    night: Night | None = None

    @property
    def each(self) -> tuple["Run", ...]:
        """The runs of all models, this one first."""
        return (self, *self.also)

    old: Mapping[str, LabelMapUrl] | None = None
    end: RunEnd = field(default_factory=RunEnd)
    elsewhere: frozenset[str] = frozenset()
    leases: Leases | None = None
    memory_steps: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What is known of the cases before they are looked at, in a sentence."""
        said = [(one.model_name, one.night.expected(one.cases)) for one in self.each if one.night]
        return "; ".join(f"{name}: {text}" if name else text for name, text in said)

    def known(self, case: Case) -> CaseRecord | None:
        """Return the record of a case that is done, where that is known without a look."""
        found = None if self.night is None else self.night.known.get(case.name)
        if found is None:
            return None
        fault = self.mask_faults.get(case.name)
        if fault is not None:
            found = replace(found, mask_code=fault.code, mask_message=fault.message)
        return replace(found, model=self.model_name)

    def known_by_all(self, case: Case) -> list[CaseRecord]:
        """Return the records of a case that no model need look at; else nothing."""
        found = [run.known(case) for run in self.each]
        return [] if None in found else [one for one in found if one is not None]

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
        do not fit it, a cohort without a case, or an output that is also an input, that has label
        maps of another model, or on which another run is at work, if it is not to be shared.
    """
    end = RunEnd(settings.stop.seconds, settings.stop.price, rate_of(settings.cost))
    settings = settings.in_version()
    store = open_store(settings.storage)
    settings = with_models(settings, store)
    asked = [settings.of_first, *map(settings.with_model, settings.also)]
    models = open_models(asked, store)
    networks = sum(model.networks for model in models)
    models = [model.keeping(networks) for model in models]
    region = region_of(settings.within, models[0].bundle)
    cohort = cohort_of(settings, store, models[0].bundle)
    opened = []
    for one, model, name in zip(asked, models, names_of(models), strict=True):
        output = join(settings.output, name) if name else settings.output
        store.check_writable(output)
        mine = one.model_copy(update={"output": output, "compare_with": _old_of(one, name, store)})
        layout, named = open_layout(mine, store, model.bundle, cohort)
        opened.append((mine, model, name, layout, named.part(settings.part)))
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
    meet([Presence(store, one[0].output, run_id) for one in opened], settings.other_runs)
    first = _run(run_id, store, *opened[0])
    also = [_run(run_id, store, *one, region=region, first=first) for one in opened[1:]]
    if settings.combine:
        also.append(_combined(settings, (first, *also), cohort))
    for run in (first, *also):
        write_dataset(run.settings, store, run.model.bundle, run.layout)
    inputs = marks_of_inputs(settings, store, cohort)
    first, *also = (_with_night(run, inputs) for run in (first, *also))
    return replace(first, also=tuple(also), end=end)


def _with_night(run: Run, inputs: Marks) -> Run:
    """Find out what is done, and refuse to write over what another model made."""
    asked, rules = run.settings, run.model.policy
    night = night_of(
        asked, run.store, run.facts, rules, run.layout, run.cases, inputs, run.elsewhere
    )
    if not asked.replace:
        unknown = (case for case in run.cases if case.name not in night.known)
        records = (f"{run.output_of(case)}{RECORD}" for case in unknown)
        refuse_other_models(run.store, run.facts, records)
    return replace(run, night=night)


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
    part = cohort.part(settings.part)
    run = _run(first.run_id, first.store, asked, model, COMBINED, layout, part)
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
    facts = facts_of(run_id, model, settings)
    if region is not None and first is not None:
        facts = facts_within(facts, region, first.facts)
    records = [join(settings.output, f"{layout.name_of(case)}{RECORD}") for case in cohort.cases]
    old = None
    if settings.compare_with:
        names = [case.name for case in cohort.cases]
        old = finished_before(store, settings.compare_with, settings.output, records, names)
    return Run(
        run_id,
        settings,
        store,
        model,
        tuple(sorted(cohort.cases, key=lambda case: -case.priority)),
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
        elsewhere=_elsewhere(cohort),
    )


def _elsewhere(part: Cohort) -> frozenset[str]:
    """Return the cases of the whole cohort that are not in a part of it."""
    if part.whole is None:
        return frozenset()
    return frozenset(case.name for case in part.whole.cases) - {case.name for case in part.cases}
