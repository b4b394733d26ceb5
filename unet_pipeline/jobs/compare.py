"""``compare``: several bundles on one cohort, scored on the grid of the files and tested in pairs.

Each bundle runs with its own preprocessing, spacing and windows; what is compared are the label
maps on the native grid. Bundles of one name are averaged: one network, trained with several seeds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from time import perf_counter

import numpy as np

from unet_pipeline.cluster.executor import Executor
from unet_pipeline.config import CompareSettings
from unet_pipeline.config.evaluation import NAMED
from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.choice import FEW_CASES
from unet_pipeline.evaluation.records import CandidateResult, Evaluation, Remark
from unet_pipeline.evaluation.statistics import Bootstrap
from unet_pipeline.evaluation.table import ScoreTable, score_table
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.records import Case, masks_text
from unet_pipeline.request import new_run_id
from unet_pipeline.selection.candidates import (
    Candidate,
    OnCase,
    Outcome,
    all_left_out,
    no_dice,
    open_candidate,
    run_candidates,
    segment_settings,
)
from unet_pipeline.selection.costs import model_cost, time_windows
from unet_pipeline.selection.files import write_evaluation
from unet_pipeline.storage.outage import under_way
from unet_pipeline.storage.store import Store, join
from unet_pipeline.training.split import TO_COMPARE_ON

MOST_DISAGREEMENTS = 12
PER_PAIR = 5
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class CompareRun:
    """A checked request for ``compare``.

    Attributes
    ----------
    groups
        For each name the candidates that it stands for, the first being held against.
    """

    run_id: str
    settings: CompareSettings
    store: Store
    groups: Mapping[str, tuple[Candidate, ...]]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates, in order."""
        return tuple(candidate for members in self.groups.values() for candidate in members)

    @property
    def folder(self) -> str:
        """URL of the folder of the report."""
        return join(self.settings.output, "runs", self.run_id)

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases to score."""
        return self.candidates[0].cases

    @property
    def work(self) -> int:
        """Number of label maps to make, at most."""
        return len(self.cases) * len(self.candidates)


def open_compare(settings: CompareSettings) -> CompareRun:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        ``models_too_few``, ``models_clash``, ``labels_differ`` or ``channels_differ``; what
        ``open_candidate`` raises.
    """
    groups, parts = {}, TO_COMPARE_ON if settings.split is None else (settings.split,)
    for name, models in parse_models(settings.models).items():
        places = [name] if len(models) == 1 else [f"{name}/{i}" for i in range(1, len(models) + 1)]
        groups[name] = tuple(
            open_candidate(place, segment_settings(settings, place, model), parts)
            for place, model in zip(places, models, strict=True)
        )
    run = CompareRun(new_run_id(), settings, next(iter(groups.values()))[0].run.store, groups)
    check_same_task([candidate.run.model.bundle for candidate in run.candidates])
    return run


def run_compare(
    run: CompareRun, executor: Executor, on_case: OnCase = lambda *_: None
) -> Evaluation:
    """Score the bundles, test them in pairs, and write the report.

    Raises
    ------
    RequestError
        ``cases_too_few`` if fewer than two cases can be scored by all; ``dice_missing`` if no
        mask has a label that the networks know.
    RunStopped
        For a fault of the store; label maps that are done stay.
    """
    with under_way():
        return _run(run, executor, on_case)


def _run(run: CompareRun, executor: Executor, on_case: OnCase) -> Evaluation:
    begin, scoring = perf_counter(), run.settings.scoring
    outcomes = run_candidates(run.candidates, run.cases, executor, scoring.surface_mm, on_case)
    bootstrap = Bootstrap(scoring.resamples, scoring.seed, scoring.confidence)
    labels = run.candidates[0].run.model.bundle.foreground
    each = score_table({k: v.scores for k, v in outcomes.items()}, labels)
    members = {name: [one.name for one in group] for name, group in run.groups.items()}
    table = each.grouped(members)
    against = next(iter(run.groups))
    if np.isnan(table.dice_of(against)).all():
        raise no_dice(labels)
    pairs = _pairs(run)
    times = time_windows(run.candidates, table.cases, executor)
    results = tuple(
        _result(name, group, times, outcomes, each, table, against, bootstrap)
        for name, group in run.groups.items()
    )
    evaluation = Evaluation(
        kind="compare",
        run_id=run.run_id,
        against=against,
        cases=len(table.cases),
        surface_mm=scoring.surface_mm,
        confidence=scoring.confidence,
        resamples=scoring.resamples,
        results=results,
        disagreements=tuple(table.disagreements(pairs, PER_PAIR)[:MOST_DISAGREEMENTS]),
        remarks=tuple(_remarks(run, len(table.cases))),
        left_out=all_left_out(run.candidates, outcomes.values()),
        seconds=round(perf_counter() - begin, 3),
        folder=run.folder,
        comparisons=tuple(table.compare(pairs, bootstrap)),
        names={str(k): name for k, name in run.candidates[0].run.model.bundle.labels.items()},
    )
    return write_evaluation(run.store, evaluation, outcomes, _context(run))


def parse_models(models: Sequence[str]) -> dict[str, list[str]]:
    """Return the bundles of each name; the last part of a bundle's URL names it if nothing else.

    Raises
    ------
    RequestError
        ``models_too_few`` for fewer than two names, ``models_clash`` for a bundle that is named
        twice, or two without a name that end alike.
    """
    groups: dict[str, list[str]] = {}
    unnamed = set()
    for text in models:
        named = NAMED.fullmatch(text)
        model = named["model"] if named else text
        name = named["name"] if named else _last_part(text)
        members = groups.setdefault(name, [])
        if model in members or (members and (named is None or name in unnamed)):
            raise RequestError(
                "models_clash",
                found=f"{name} more than once",
                wanted="a name of its own for each bundle",
                remedy="Give names, as in small=s3://a/model large=s3://b/model; bundles of one "
                "given name are averaged",
                subject=text,
            )
        members.append(model)
        unnamed |= set() if named else {name}
    if len(groups) < 2:
        raise RequestError(
            "models_too_few",
            found=f"{len(groups)} to compare",
            wanted="at least two bundles of different names",
            remedy="Name another bundle",
        )
    return groups


def _last_part(url: str) -> str:
    """Return a name for a bundle that is also the name of a folder: never ``..``."""
    return _UNSAFE.sub("-", url.rstrip("/").rsplit("/", 1)[-1]).lstrip(".-_+") or "model"


def check_same_task(bundles: Sequence[Bundle]) -> None:
    """Refuse bundles whose labels or channels are not the same, by their numbers."""
    first, *others = bundles
    for bundle in others:
        if set(bundle.labels) != set(first.labels):
            raise RequestError(
                "labels_differ",
                found=f"labels {_numbers(bundle)}",
                wanted=f"{_numbers(first)}, as {first.name} has",
                remedy="Compare bundles for the same labels",
                subject=bundle.name,
            )
        if bundle.image_channels != first.image_channels:
            raise RequestError(
                "channels_differ",
                found=f"a network of {bundle.image_channels} channels",
                wanted=f"{first.image_channels}, as {first.name} has",
                remedy="Compare bundles for the same images",
                subject=bundle.name,
            )


def _pairs(run: CompareRun) -> list[tuple[str, str]]:
    """Return the pairs to test, each the later one and what it is held against."""
    pairs = [(other, one) for one, other in combinations(run.groups, 2)]
    return pairs if run.settings.all_pairs else pairs[: len(run.groups) - 1]


def _result(
    name: str,
    group: Sequence[Candidate],
    times: Mapping[str, float],
    outcomes: Mapping[str, Outcome],
    each: ScoreTable,
    table: ScoreTable,
    against: str,
    bootstrap: Bootstrap,
) -> CandidateResult:
    measured = [times[one.name] for one in group if one.name in times]
    records = [outcomes[member.name].records[case] for member in group for case in table.cases]
    difference = bootstrap.interval(table.dice_of(name) - table.dice_of(against))
    runs = {one.name: float(np.nanmean(each.dice_of(one.name))) for one in group}
    return CandidateResult(
        name=name,
        cost=model_cost(group[0].run.model, fmean(measured) if measured else None, records),
        metrics=table.metrics(name, bootstrap),
        labels=table.metrics_per_label(name, bootstrap),
        difference=None if name == against else difference,
        runs=runs if len(runs) > 1 else {},
    )


def _remarks(run: CompareRun, cases: int) -> list[Remark]:
    found = run.candidates[0].remarks
    if cases < FEW_CASES:
        text = f"There are only {cases} cases; a difference must be large to show on so few."
        found.append(Remark("few_cases", text))
    if any(len(group) == 1 for group in run.groups.values()):
        text = (
            "Some candidate is a single bundle. The tests are over cases: they say nothing of how "
            "the same network would do with another seed."
        )
        found.append(Remark("one_seed", text))
    names = [one.run.model.bundle.labels for one in run.candidates]
    if any(labels != names[0] for labels in names):
        text = "The bundles give their labels different names; they were matched by number."
        found.append(Remark("label_names_differ", text))
    return found


def _numbers(bundle: Bundle) -> str:
    return ", ".join(map(str, sorted(bundle.labels)))


def _context(run: CompareRun) -> dict[str, str]:
    settings = run.settings
    models = [f"{one.name}: {one.run.model.bundle.url}" for one in run.candidates]
    return {
        "Models": "\n".join(models),
        "Images": settings.images,
        "Masks": masks_text(settings.masks, run.cases),
        "Output": settings.output,
        "Cluster": settings.cluster.kind,
    }
