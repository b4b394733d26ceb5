"""Candidates: bundles at a depth, run over one cohort as a night would run them, and scored.

Label maps go to ``<output>/labels/<candidate>`` with their sidecars, so a run that was killed is
finished by the next, and what is scored can be looked at.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unet_pipeline.cluster.executor import Executor, Handle
from unet_pipeline.config import CompareSettings, DepthsSettings, SegmentSettings
from unet_pipeline.errors import CaseError, PipelineError, RequestError
from unet_pipeline.evaluation.records import LeftOut, Remark
from unet_pipeline.evaluation.scores import LabelScore, score_labels
from unet_pipeline.gate.examine import Policy, examine
from unet_pipeline.gate.inspect import read_reference
from unet_pipeline.jobs.segment import run_segment
from unet_pipeline.records import Case, CaseRecord
from unet_pipeline.runs import Run, open_segment
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.outage import stop_for
from unet_pipeline.storage.store import Store, join
from unet_pipeline.training.split import first_part, part_of
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.disk_arrays import Room

log = logging.getLogger(__name__)

FEWEST_CASES = 2  # that a spread can be told of
_SAID = {
    "training": "for training",
    "validation": "for validation",
    "test": "for the test",
    "unused": "unused",
    "": "left open",
}
OnCase = Callable[[str, CaseRecord], None]


@dataclass(frozen=True)
class Candidate:
    """A bundle at a depth, checked and ready to run.

    Attributes
    ----------
    part
        What a manifest must give a case to, so that it is scored: ``validation``, ``test``, or
        empty for cases of which it says nothing.
    cases
        The cases of that part with a mask.
    left_out
        Cases of that part that are at fault already.
    """

    name: str
    run: Run
    part: str
    cases: tuple[Case, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def remarks(self) -> list[Remark]:
        """What to know about the cases."""
        counts = Counter(part_of(case) for case in self.run.cases)
        del counts[self.part]
        others = ", ".join(f"{count} {_SAID[part]}" for part, count in sorted(counts.items()))
        text = (
            f"By the manifest's split, the cases {_SAID[self.part]} are scored, and not the others "
            f"({others})."
        )
        return [Remark("split", text)] if others else []


@dataclass(frozen=True)
class Outcome:
    """What one candidate did: by case name."""

    scores: Mapping[str, Mapping[int, LabelScore]]
    records: Mapping[str, CaseRecord]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class ScoreJob:
    """A label map to hold against its mask; small, travels to a worker."""

    store: Store
    case: Case
    label_map: str
    policy: Policy
    labels: tuple[int, ...]
    surface_mm: float
    memory_bytes: int


@dataclass
class _Gathered:
    """What comes in while a candidate runs."""

    records: dict[str, CaseRecord] = field(default_factory=dict)
    handles: dict[str, Handle] = field(default_factory=dict)
    scores: dict[str, Mapping[int, LabelScore]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


def segment_settings(
    settings: DepthsSettings | CompareSettings,
    name: str,
    model: str,
    depth: str | None = None,
) -> SegmentSettings:
    """Return the request of one candidate; adaptive depth is nothing that engines can convert."""
    windows = settings.windows
    if depth == "adaptive":
        windows = windows.model_copy(update={"engine": "eager"})
    return SegmentSettings(
        images=settings.images,
        masks=settings.masks,
        mask_pattern=settings.mask_pattern,
        require_masks=True,
        model=model,
        output=join(settings.output, "labels", name),
        depth=depth,
        output_format=settings.output_format,
        output_layout="simple",
        replace=True,  # what they write is scored, and no result that anybody keeps
        trust=settings.trust,
        ignore_postprocessing=settings.ignore_postprocessing,
        postprocess=settings.postprocess,
        windows=windows,
        cluster=settings.cluster,
        storage=settings.storage,
        budget=settings.budget,
        gate=settings.gate.model_dump(),
    )


def open_candidate(name: str, settings: SegmentSettings, parts: Sequence[str]) -> Candidate:
    """Check everything about a candidate that can be checked before work starts.

    Parameters
    ----------
    parts
        Parts of a manifest's split; the first that has a case is scored, and no other.

    Raises
    ------
    RequestError
        What ``open_segment`` and ``first_part`` raise; ``masks_missing`` if fewer than two cases of
        the part have a mask.
    """
    run = open_segment(settings)
    listed = [*run.cases, *(case for case, _ in run.faults)]
    part = first_part(listed, parts)
    members = [case for case in run.cases if part_of(case) == part]
    cases = tuple(case for case in members if case.mask is not None)
    if len(cases) < FEWEST_CASES:
        raise _masks_missing(len(cases), listed, part, settings.images)
    faults = [_left_out(case.name, error) for case, error in run.faults if part_of(case) == part]
    faults += [_left_out(case.name, _no_mask()) for case in members if case.mask is None]
    return Candidate(name, run, part, cases, tuple(faults))


def run_candidate(
    candidate: Candidate,
    cases: Sequence[Case],
    executor: Executor,
    surface_mm: float,
    on_case: OnCase,
) -> Outcome:
    """Segment the cases and score their label maps; a case at fault is left out."""
    run = replace(candidate.run, cases=tuple(cases))
    by_name = {case.name: case for case in cases}
    found = _Gathered()
    for record in run_segment(run, executor):
        if record.output is None:
            found.left_out.append(LeftOut(record.case, record.code, record.message))
        else:
            job = _score_job(run, by_name[record.case], record.output, surface_mm)
            _submit(found, run, job, executor)
            found.records[record.case] = record
        on_case(candidate.name, record)
    for name, handle in found.handles.items():
        try:
            found.scores[name] = executor.result(handle)
        except CaseError as error:
            stop_for(run.store, error, _read(run))
            found.left_out.append(_left_out(name, error))
    return Outcome(found.scores, found.records, tuple(found.left_out))


def run_candidates(
    candidates: Iterable[Candidate],
    cases: Sequence[Case],
    executor: Executor,
    surface_mm: float,
    on_case: OnCase,
) -> dict[str, Outcome]:
    """Run one candidate after the other; a case that is at fault for one is not run by the next.

    Raises
    ------
    RequestError
        ``cases_too_few`` if fewer than two cases are left.
    RunStopped
        For a fault of the store that concerns all cases; label maps that are done stay.
    """
    outcomes = {}
    for candidate in candidates:
        outcome = run_candidate(candidate, cases, executor, surface_mm, on_case)
        outcomes[candidate.name] = outcome
        cases = [case for case in cases if case.name in outcome.scores]
        if len(cases) < FEWEST_CASES:
            raise _too_few(candidate, len(cases), outcome.left_out)
        log.info("%s: scored on %d cases", candidate.name, len(cases))
    return outcomes


def score_case(job: ScoreJob) -> dict[int, LabelScore]:
    """Hold a label map against its mask, as the gate lets it be read.

    Raises
    ------
    CaseError
        If one of the two can no longer be read.
    """
    with of_case(job.case.name):
        return _score(job)


def _score(job: ScoreJob) -> dict[int, LabelScore]:
    assert job.case.mask is not None  # noqa: S101  candidates have only such cases
    examined = examine(job.store, job.case, job.policy)
    grid, seen = examined.sound_header().grid, examined.versions
    room = Room(job.memory_bytes)
    mask = read_reference(job.store, job.case.mask, job.case.parts, grid, job.policy, room, seen)
    labels_XYZ, _ = read_labels(job.store, job.label_map, budget_bytes=job.memory_bytes)
    return score_labels(labels_XYZ, mask.labels_XYZ, job.labels, grid.spacing_mm, job.surface_mm)


def all_left_out(
    candidates: Sequence[Candidate], outcomes: Iterable[Outcome]
) -> tuple[LeftOut, ...]:
    """Return the cases that took no part, each once, by name."""
    found = {one.case: one for candidate in candidates for one in candidate.left_out}
    for outcome in outcomes:
        for one in outcome.left_out:
            found.setdefault(one.case, one)
    return tuple(found[name] for name in sorted(found))


def _score_job(run: Run, case: Case, label_map: str, surface_mm: float) -> ScoreJob:
    return ScoreJob(
        store=run.store,
        case=case,
        label_map=label_map,
        policy=run.model.policy,
        labels=run.model.bundle.foreground,
        surface_mm=surface_mm,
        memory_bytes=int(run.settings.budget.memory_gb * 1e9),
    )


def _read(run: Run) -> tuple[str | None, ...]:
    return run.settings.images, run.settings.masks, run.settings.output


def _submit(found: _Gathered, run: Run, job: ScoreJob, executor: Executor) -> None:
    try:
        found.handles[job.case.name] = executor.submit(score_case, job)
    except CaseError as error:  # the serial executor runs it at once
        stop_for(run.store, error, _read(run))
        found.left_out.append(_left_out(job.case.name, error))


def no_dice(labels: Sequence[int]) -> RequestError:
    """Return the error of a cohort on which nothing can be measured."""
    return RequestError(
        "dice_missing",
        found="masks without any label of the network, and label maps as empty",
        wanted=f"labels {', '.join(map(str, labels))}",
        remedy="Check the masks, or choose a bundle that belongs to them",
    )


def _left_out(case: str, error: PipelineError) -> LeftOut:
    return LeftOut(case, error.code, str(error.about(case)))


def _no_mask() -> CaseError:
    return CaseError(
        "mask_missing",
        found="an image without a mask",
        wanted="a mask to hold its label map against",
        remedy="Add the mask, or leave the case as it is: it takes no part",
    )


def _masks_missing(count: int, listed: Sequence[Case], part: str, images: str) -> RequestError:
    by_split = bool(part) or any(case.split for case in listed)
    return RequestError(
        "masks_missing",
        found=f"{count} of {len(listed)} cases with a mask"
        + (f" that are {_SAID[part]}, by a manifest's column split" if by_split else ""),
        wanted=f"at least {FEWEST_CASES} such cases, better twenty",
        remedy="Name the masks (--masks), or give a larger cohort"
        + (", or correct that column" if by_split else ""),
        subject=images,
    )


def _too_few(candidate: Candidate, count: int, left_out: Sequence[LeftOut]) -> RequestError:
    reasons = "; ".join(f"{one.case}: {one.code}" for one in left_out[:3])
    return RequestError(
        "cases_too_few",
        found=f"{count} cases that {candidate.name} could be scored on ({reasons})",
        wanted=f"at least {FEWEST_CASES}",
        remedy="Put the cases right (unet-pipeline check says how), or give a larger cohort",
    )
