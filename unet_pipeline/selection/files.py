"""The files of an evaluation: page, tables, picture, and last the result as JSON."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import unet_pipeline
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.evaluation.records import Evaluation
from unet_pipeline.records import json_bytes
from unet_pipeline.report.evaluation_page import evaluation_html
from unet_pipeline.report.evaluation_table import case_scores_csv, evaluation_csv
from unet_pipeline.report.speed_plot import speed_plot
from unet_pipeline.selection.candidates import Outcome
from unet_pipeline.storage.outage import write_somewhere
from unet_pipeline.storage.store import Store, join

MAX_FIGURES = 6  # cases whose label maps are shown, of both candidates


def write_evaluation(
    store: Store,
    evaluation: Evaluation,
    outcomes: Mapping[str, Outcome],
    context: Mapping[str, str],
) -> Evaluation:
    """Write all files of an evaluation below its folder; ``result.json`` comes last.

    Returns
    -------
    Evaluation
        With the folder where they lie: one of this machine, and what stopped the run, where the
        store fails.
    """
    shown = {**context, "Version": unet_pipeline.__version__}
    figures = _figures(store, evaluation, outcomes)

    def lies_in(folder: str, fault: RunStopped | None) -> Evaluation:
        stopped = "" if fault is None else f"{fault} Run again: what is done stays."
        return replace(evaluation, folder=folder, stopped=stopped)

    def write(said: Evaluation, where: Store) -> None:
        _write(where, said, outcomes, figures, shown)

    return write_somewhere(store, evaluation.folder, lies_in, write)


def _write(
    store: Store,
    evaluation: Evaluation,
    outcomes: Mapping[str, Outcome],
    figures: Mapping[tuple[str, str], bytes],
    shown: Mapping[str, str],
) -> None:
    plot = speed_plot(evaluation)
    page = evaluation_html(evaluation, plot, figures, shown)
    if plot is not None:
        store.write(join(evaluation.folder, "speed.png"), plot)
    store.write(evaluation.table, evaluation_csv(evaluation).encode())
    scores = case_scores_csv(_case_scores(outcomes), evaluation.names)
    store.write(join(evaluation.folder, "cases.csv"), scores.encode())
    store.write(evaluation.report, page.encode())
    store.write(join(evaluation.folder, "result.json"), json_bytes(evaluation.as_dict()))


def _case_scores(outcomes: Mapping[str, Outcome]) -> Iterator[dict[str, Any]]:
    for candidate, outcome in outcomes.items():
        for case in sorted(outcome.scores):
            for label, score in outcome.scores[case].items():
                yield {"case": case, "entrant": candidate, "label": label, **asdict(score)}


def _figures(
    store: Store, evaluation: Evaluation, outcomes: Mapping[str, Outcome]
) -> dict[tuple[str, str], bytes]:
    """Read the pictures of the label maps that differ most."""
    figures = {}
    for found in evaluation.disagreements[:MAX_FIGURES]:
        for name in (found.candidate, found.against):
            outcome = outcomes.get(name)  # a mean over several bundles has no label map
            url = outcome.records[found.case].figure if outcome else None
            with suppress(PipelineError):  # a report without a picture is better than none
                if url is not None and store.exists(url):
                    figures[name, found.case] = store.read(url)
    return figures
