"""An run: fit on some cases, score others, draw, and write the report."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import unet_pipeline
from unet_pipeline.errors import CaseError, RequestError, RunStopped
from unet_pipeline.evaluation.layer_records import LayerRecord, LayersSummary
from unet_pipeline.evaluation.metrics import mean_dice
from unet_pipeline.layer_analysis.cases import CaseBlock, load_block
from unet_pipeline.layer_analysis.drawing import feature_figures
from unet_pipeline.layer_analysis.findings import advice, mean_per_label, side_of, with_findings
from unet_pipeline.layer_analysis.observe import Observer
from unet_pipeline.layer_analysis.request import LayersRun, bundle_layers, open_layers
from unet_pipeline.layer_analysis.scoring import CaseScores, ScoringRequest, score_case
from unet_pipeline.records import Case, json_bytes, masks_text
from unet_pipeline.report.layers_page import layers_html
from unet_pipeline.report.layers_table import layers_csv
from unet_pipeline.report.u_picture import u_picture
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.outage import stop_for, under_way, write_somewhere
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import parent
from unet_pipeline.volume_job import VolumeJob

__all__ = ["LayersRun", "bundle_layers", "open_layers", "run_layers"]

log = logging.getLogger(__name__)

SIDES = ("encoder", "decoder")
OnCase = Callable[[str, int, int], None]  # what was done, how many cases are done, of how many
_Faults = list[tuple[str, CaseError]]
_Figures = list[tuple[str, bytes]]


def run_layers(
    run: LayersRun, on_case: OnCase | None = None
) -> tuple[list[LayerRecord], LayersSummary]:
    """Look into the chosen layers, and write report, table and pictures.

    Parameters
    ----------
    on_case
        Called after each case that was fitted on or scored.

    Returns
    -------
    layers, summary
        The chosen layers with what was found, in order of execution.

    Raises
    ------
    RequestError
        ``inspection_impossible`` if no case is left to fit on or to score.
    RunStopped
        For a fault of the store that concerns all cases.
    """
    with under_way():
        return _inspect(run, on_case)


def _inspect(run: LayersRun, on_case: OnCase | None) -> tuple[list[LayerRecord], LayersSummary]:
    begin, faults = perf_counter(), list(run.faults)
    to_fit, to_score = _split(run, faults)
    done = _Counter(on_case, len(to_fit) + len(to_score))
    names = [one.layer for one in run.chosen]
    observer = _fit(run, to_fit, names, faults, done)
    request = _scoring_request(run, observer)
    scores, figures = _score(run, to_score, request, faults, done)
    _require(bool(scores), faults, "score")
    layers = [with_findings(one, scores) for one in run.chosen]
    summary = _summary(run, layers, observer.names, scores, faults, begin)

    def lies_in(folder: str, fault: RunStopped | None) -> tuple[list[LayerRecord], LayersSummary]:
        there = replace(
            summary,
            table=join(folder, "layers.csv"),
            report=join(folder, "layers.html"),
            picture=join(folder, "network.svg"),
            stopped="" if fault is None else str(fault),
        )
        return [_with_figures(one, figures, folder) for one in layers], there

    def write(said: tuple[list[LayerRecord], LayersSummary], store: Store) -> None:
        _write(run, store, *said, figures)

    return write_somewhere(run.store, run.folder, lies_in, write)


class _Counter:
    """Counts the cases for whoever shows how far the work is."""

    def __init__(self, on_case: OnCase | None, total: int) -> None:
        self.on_case, self.total, self.count = on_case, total, 0

    def __call__(self, what: str) -> None:
        self.count += 1
        if self.on_case is not None:
            self.on_case(what, self.count, self.total)


def _split(run: LayersRun, faults: _Faults) -> tuple[list[VolumeJob], list[VolumeJob]]:
    """Choose cases whose headers are sound: the first to fit on, the next to score."""
    settings, jobs = run.settings, list[VolumeJob]()
    for case in run.shuffled():
        if len(jobs) == settings.fit_cases + settings.score_cases:
            break
        try:
            with of_case(case.name):
                jobs.append(_job(run, case))
        except CaseError as error:
            _leave_out(run, faults, case.name, error)
    _require(len(jobs) > 1, faults, "fit on and to score")
    share = settings.fit_cases / (settings.fit_cases + settings.score_cases)
    to_fit = min(max(1, round(share * len(jobs))), len(jobs) - 1)
    return jobs[:to_fit], jobs[to_fit:]


def _job(run: LayersRun, case: Case) -> VolumeJob:
    if case.mask is None:
        raise CaseError(
            "mask_missing",
            found="an image without a mask",
            wanted="a reference mask: layers are scored against it",
            remedy="Give masks with --masks, or in the manifest's column mask",
            subject=case.name,
        )
    return run.job(case)


def _fit(
    run: LayersRun,
    jobs: Sequence[VolumeJob],
    names: Sequence[str],
    faults: _Faults,
    done: _Counter,
) -> Observer:
    labels = sorted(run.model.bundle.labels)
    each = -(-run.settings.voxels // len(jobs))
    observer = Observer(run.inspected, names, labels, each, run.settings.seed)
    for block in _blocks(run, jobs, faults):
        observer.add(block)
        done(f"fitted on {block.name}")
    _require(bool(observer.names), faults, "fit on")
    return observer


def _scoring_request(run: LayersRun, observer: Observer) -> ScoringRequest:
    compared = run.blocks if not run.settings.layers else ()
    return ScoringRequest(
        layers=dict(observer.fitted()),
        sides={side: [one.layer for one in compared if one.side == side] for side in SIDES},
        groups=run.settings.groups,
        decision=run.model.bundle.decision,
        labels=observer.labels,
        blend=run.model.spec.blend,
    )


def _score(
    run: LayersRun,
    jobs: Sequence[VolumeJob],
    request: ScoringRequest,
    faults: _Faults,
    done: _Counter,
) -> tuple[list[CaseScores], _Figures]:
    """Score the cases; the first is also drawn."""
    scores: list[CaseScores] = []
    figures: _Figures = []
    for block in _blocks(run, jobs, faults):
        try:
            with of_case(block.name):
                scores.append(score_case(run.inspected, block, request))
        except CaseError as error:
            _leave_out(run, faults, block.name, error)
            continue
        if not figures:
            figures = list(
                feature_figures(
                    run.inspected,
                    block,
                    [one.layer for one in run.chosen],
                    run.settings.view,
                    run.settings.slices,
                )
            )
        done(f"scored {block.name}")
    return scores, figures


def _blocks(run: LayersRun, jobs: Sequence[VolumeJob], faults: _Faults) -> Iterator[CaseBlock]:
    """Read one case after the other; only one is in memory."""
    for job in jobs:
        try:
            with of_case(job.case):
                block = load_block(job, run.settings.windows)
        except CaseError as error:
            _leave_out(run, faults, job.case, error)
            continue
        yield block


def _leave_out(run: LayersRun, faults: _Faults, case: str, error: CaseError) -> None:
    settings = run.settings
    stop_for(run.store, error, (settings.images, settings.masks))
    faults.append((case, error))
    log.warning("%s is left out (%s)", case, error.code)


def _require(found: bool, faults: _Faults, purpose: str) -> None:
    if not found:
        codes = ", ".join(sorted({error.code for _, error in faults})) or "none at fault"
        raise RequestError(
            "inspection_impossible",
            found=f"too few sound cases to {purpose}; {len(faults)} left out ({codes})",
            wanted="at least two cases with masks that are not for training: one to fit on, one "
            "to score",
            remedy="Give a larger cohort, or run unet-pipeline check on it",
        )


def _place_of(title: str, folder: str) -> str:
    """Return the URL of a feature map in the folder of the report."""
    layer, _, where = title.partition(", ")
    name = f"{layer.replace('.', '-')}_{where.replace(' ', '-')}.png"
    return join(folder, "features", name)


def _with_figures(layer: LayerRecord, figures: _Figures, folder: str) -> LayerRecord:
    mine = (title for title, _ in figures if title.partition(", ")[0] == layer.layer)
    return replace(layer, figures=tuple(_place_of(title, folder) for title in mine))


def _summary(
    run: LayersRun,
    layers: Sequence[LayerRecord],
    fitted: Sequence[str],
    scores: Sequence[CaseScores],
    faults: _Faults,
    begin: float,
) -> LayersSummary:
    sides = {side: side_of(side, run.blocks, scores) for side in SIDES}
    dice = mean_per_label(scores)
    return LayersSummary(
        run_id=run.run_id,
        model=run.model.bundle.name,
        fitted=tuple(fitted),
        scored=tuple(one.case for one in scores),
        faults=tuple(
            {"case": case, "code": error.code, "message": str(error)} for case, error in faults
        ),
        dice=dice,
        names={str(number): name for number, name in run.model.bundle.labels.items()},
        groups=run.settings.groups,
        sides=tuple(sides.values()),
        advice=advice(
            sides,
            [one for one in layers if one.block],
            run.settings.groups,
            mean_dice(dice.values()),
        ),
        seconds=round(perf_counter() - begin, 3),
        table="",
        report="",
        picture="",
    )


def _write(
    run: LayersRun,
    store: Store,
    layers: Sequence[LayerRecord],
    summary: LayersSummary,
    figures: _Figures,
) -> None:
    measured = {one.layer: one for one in layers}
    numbers = {one.layer: number for number, one in enumerate(layers, start=1)}
    svg = u_picture([measured.get(one.layer, one) for one in run.blocks], numbers)
    page = layers_html(summary, layers, svg, figures, _context(run))
    folder = parent(summary.report)
    for title, png in figures:
        store.write(_place_of(title, folder), png)
    store.write(summary.picture, svg.encode())
    store.write(summary.table, layers_csv(layers, summary.names).encode())
    store.write(summary.report, page.encode())
    content = {**summary.as_dict(), "layers": [one.as_dict() for one in layers]}
    store.write(join(folder, "layers.json"), json_bytes(content))


def _context(run: LayersRun) -> Mapping[str, str]:
    settings, bundle = run.settings, run.model.bundle
    window = " x ".join(map(str, bundle.roi_size))
    return {
        "Images": settings.images,
        "Masks": masks_text(settings.masks, run.cases),
        "Model": f"{settings.model} ({bundle.weights_digest})",
        "Depth": "all" if settings.depth is None else str(settings.depth),
        "Windows": f"{window} voxels, overlap {run.model.overlap:g}, at most "
        f"{settings.windows} of a case",
        "Probes": f"{settings.voxels:,} voxels, seed {settings.seed}",
        "Channel groups": str(settings.groups),
        "Version": unet_pipeline.__version__,
    }
