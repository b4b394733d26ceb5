"""``depths``: score every depth of a nested U-Net on a validation cohort, and choose one.

L1, L2, ... and the mean of the heads are run as a night would run them. Then adaptive depth is
calibrated on the same cases and run, too. The choice is among the fixed depths.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from unet_pipeline.cluster.executor import Executor
from unet_pipeline.config import DepthsSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.choice import choose_depth, remarks_on
from unet_pipeline.evaluation.records import CandidateResult, DepthChoice, Evaluation, Remark
from unet_pipeline.evaluation.statistics import Bootstrap
from unet_pipeline.evaluation.table import ScoreTable, score_table
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.bundle_tools import convert_bundle, prune_bundle
from unet_pipeline.networks.depth import ADAPTIVE
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.pruning import check_depth, depths_of
from unet_pipeline.networks.trusted import BundleCode
from unet_pipeline.records import Case, masks_text
from unet_pipeline.request import new_run_id, open_store
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
from unet_pipeline.tiling.decision import Highest
from unet_pipeline.training.calibrate import calibrate_on
from unet_pipeline.training.split import TO_CHOOSE_BY

log = logging.getLogger(__name__)

CARD = "docs/README.md"
MOST_DISAGREEMENTS = 8


@dataclass(frozen=True)
class DepthsRun:
    """A checked request for ``depths``.

    Attributes
    ----------
    candidates
        The fixed depths, shallow to deep, and the mean of the heads.
    depths
        Number of fixed depths.
    adaptive
        Whether adaptive depth is to be calibrated and run.
    """

    run_id: str
    settings: DepthsSettings
    store: Store
    bundle: Bundle
    candidates: tuple[Candidate, ...]
    depths: int
    adaptive: bool

    @property
    def folder(self) -> str:
        """URL of the folder of the report and of the bundles."""
        return join(self.settings.output, "runs", self.run_id)

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases to score."""
        return self.candidates[0].cases

    @property
    def work(self) -> int:
        """Number of label maps to make, at most."""
        return len(self.cases) * (len(self.candidates) + self.adaptive)


def open_depths(settings: DepthsSettings) -> DepthsRun:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        ``depth_invalid`` for a network of one depth; what ``open_candidate`` raises.
    """
    store = open_store(settings.storage)
    bundle = load_bundle(settings.model, store, trust=settings.trust)
    depths = depths_of(network := load_network(bundle, store))
    if depths < 2:
        check_depth(network, 2)
    exclusive = isinstance(bundle.decision, Highest)  # heads can be averaged and doubted
    names = [str(depth) for depth in range(1, depths + 1)] + (["mean"] if exclusive else [])
    candidates = []
    for depth in names:
        name = f"L{depth}" if depth.isdigit() else depth
        request = segment_settings(settings, name, settings.model, depth)
        candidates.append(open_candidate(name, request, TO_CHOOSE_BY))
    adaptive = exclusive and settings.adaptive
    return DepthsRun(new_run_id(), settings, store, bundle, tuple(candidates), depths, adaptive)


def run_depths(run: DepthsRun, executor: Executor, on_case: OnCase = lambda *_: None) -> Evaluation:
    """Score the depths, choose one, and write the report and the bundles.

    Parameters
    ----------
    on_case
        Called with the candidate's name and the record of each case as it is ready.

    Raises
    ------
    RequestError
        ``cases_too_few`` if fewer than two cases can be scored; ``dice_missing`` if no mask has a
        label that the network knows.
    RunStopped
        For a fault of the store; label maps that are done stay.
    """
    with under_way():
        return _run(run, executor, on_case)


def _run(run: DepthsRun, executor: Executor, on_case: OnCase) -> Evaluation:
    begin, settings = perf_counter(), run.settings
    surface_mm = settings.scoring.surface_mm
    outcomes = run_candidates(run.candidates, run.cases, executor, surface_mm, on_case)
    candidates = run.candidates
    if run.adaptive:
        scored = outcomes[candidates[-1].name].scores
        cases = [case for case in run.cases if case.name in scored]
        if (adaptive := _open_adaptive(run, cases)) is not None:
            outcomes |= run_candidates([adaptive], cases, executor, surface_mm, on_case)
            candidates = (*candidates, adaptive)
    return _conclude(run, candidates, outcomes, executor, begin)


def _conclude(
    run: DepthsRun,
    candidates: tuple[Candidate, ...],
    outcomes: Mapping[str, Outcome],
    executor: Executor,
    begin: float,
) -> Evaluation:
    scoring = run.settings.scoring
    bootstrap = Bootstrap(scoring.resamples, scoring.seed, scoring.confidence)
    table = score_table({k: v.scores for k, v in outcomes.items()}, run.bundle.foreground)
    dice_CD = np.stack([table.dice_of(f"L{depth}") for depth in range(1, run.depths + 1)], axis=1)
    known_CD = dice_CD[~np.isnan(dice_CD).any(axis=1)]
    if not len(known_CD):
        raise no_dice(run.bundle.foreground)
    choice = choose_depth(known_CD, tolerance=run.settings.tolerance, bootstrap=bootstrap)
    best, chosen = f"L{choice.best}", f"L{choice.depth}"
    times = time_windows(candidates, table.cases, executor)
    results = tuple(
        _result(one, times.get(one.name), outcomes[one.name], table, best, bootstrap)
        for one in candidates
    )
    others = [f"L{depth}" for depth in range(1, run.depths + 1) if depth != choice.best]
    shown = [(name, best) for name in ([chosen] if chosen != best else others)]
    evaluation = Evaluation(
        kind="depths",
        run_id=run.run_id,
        against=best,
        cases=len(table.cases),
        surface_mm=scoring.surface_mm,
        confidence=scoring.confidence,
        resamples=scoring.resamples,
        results=results,
        disagreements=tuple(table.disagreements(shown, MOST_DISAGREEMENTS)[:MOST_DISAGREEMENTS]),
        remarks=(
            *remarks_on(choice, len(known_CD)),
            *_remarks(run.adaptive, choice, results),
            *run.candidates[0].remarks,
        ),
        left_out=all_left_out(candidates, outcomes.values()),
        seconds=round(perf_counter() - begin, 3),
        folder=run.folder,
        choice=choice,
        bundles=_bundles(run, choice, "adaptive" in outcomes),
        names={str(number): name for number, name in run.bundle.labels.items()},
    )
    return write_evaluation(run.store, evaluation, outcomes, _context(run))


def _open_adaptive(run: DepthsRun, cases: list[Case]) -> Candidate | None:
    """Calibrate adaptive depth on the cases, in a copy of the bundle; None where it cannot be."""
    loss, policy = run.settings.adaptive_loss, run.candidates[0].run.model.policy
    try:
        read = (run.settings.images, run.settings.masks)
        rule = calibrate_on(run.bundle, run.store, cases, loss, policy, read)
    except RequestError as error:
        if error.code != "calibration_impossible":
            raise
        log.warning("adaptive depth is left out: %s", error)
        return None
    url = _adaptive_url(run)
    convert_bundle(run.bundle, run.store, url)
    _bring_code(run, url)
    run.store.write(join(url, ADAPTIVE), rule.as_bytes())
    request = segment_settings(run.settings, "adaptive", url, "adaptive")
    return open_candidate("adaptive", request, TO_CHOOSE_BY)


def _result(
    candidate: Candidate,
    ms_per_window: float | None,
    outcome: Outcome,
    table: ScoreTable,
    against: str,
    bootstrap: Bootstrap,
) -> CandidateResult:
    name = candidate.name
    records = [outcome.records[case] for case in table.cases]
    difference = bootstrap.interval(table.dice_of(name) - table.dice_of(against))
    return CandidateResult(
        name=name,
        cost=model_cost(candidate.run.model, ms_per_window, records),
        metrics=table.metrics(name, bootstrap),
        labels=table.metrics_per_label(name, bootstrap),
        difference=None if name == against else difference,
    )


def _bundles(run: DepthsRun, choice: DepthChoice, adaptive: bool) -> dict[str, str]:
    """Write the pruned bundle, and return the URLs of the bundles of this run."""
    name = f"{run.bundle.name}-L{choice.depth}"
    url = join(run.folder, name)
    prune_bundle(run.bundle, run.store, url, choice.depth, "fast")
    _bring_code(run, url)
    card = join(url, CARD)
    if run.store.exists(card):
        run.store.write(card, run.store.read(card) + _section(run, choice).encode())
    return {name: url} | ({f"{run.bundle.name}-adaptive": _adaptive_url(run)} if adaptive else {})


def _bring_code(run: DepthsRun, url: str) -> None:
    """Copy the code that a trusted bundle's configuration calls to a bundle that was made of it."""
    if run.bundle.code_digest is None:
        return
    for path, data in BundleCode.fetch(run.bundle.url, run.store).files.items():
        if path != ADAPTIVE and not run.store.exists(join(url, path)):
            run.store.write(join(url, path), data)


def _section(run: DepthsRun, choice: DepthChoice) -> str:
    bound = choice.loss_bounds[choice.depth - 1]
    return (
        f"\n## Depth\n\nPruned to L{choice.depth} of {run.depths} depths (run {run.run_id}): its "
        f"loss of mean Dice against L{choice.best} is at most {bound:.4f} with "
        f"{choice.confidence:.0%} confidence, where {choice.tolerance:g} was allowed. The same "
        f"depth was chosen on {choice.share:.0%} of resampled cohorts.\n"
    )


def _adaptive_url(run: DepthsRun) -> str:
    return join(run.folder, f"{run.bundle.name}-adaptive")


def _remarks(
    wanted: bool, choice: DepthChoice, results: tuple[CandidateResult, ...]
) -> list[Remark]:
    """Return what to know of the mean of the heads, and of adaptive depth if it was wanted."""
    found = []
    by_name = {result.name: result for result in results}
    mean = by_name["mean"].difference if "mean" in by_name else None
    if mean is not None and mean.low > choice.tolerance:
        text = (
            f"The mean of the heads is better than any depth, by {mean.value:.4f} Dice. No depth "
            "gives that; it costs all of them (segment --depth mean)."
        )
        found.append(Remark("mean_better", text))
    if "adaptive" in by_name:
        text = (
            "The rule of adaptive depth was calibrated on these very cases, so its scores here "
            "are not independent."
        )
        found.append(Remark("adaptive_not_independent", text))
    elif wanted:
        text = "Adaptive depth is left out: fewer than two cases could be used to calibrate it."
        found.append(Remark("adaptive_left_out", text))
    return found


def _context(run: DepthsRun) -> dict[str, str]:
    settings = run.settings
    adaptive = f"calibrated to a loss of {settings.adaptive_loss:g} Dice"
    return {
        "Model": f"{run.bundle.name} ({run.bundle.weights_digest[:19]})",
        "Images": settings.images,
        "Masks": masks_text(settings.masks, run.cases),
        "Output": settings.output,
        "Tolerance": f"{settings.tolerance:g} Dice",
        "Adaptive depth": adaptive if settings.adaptive else "left out",
        "Cluster": settings.cluster.kind,
    }
