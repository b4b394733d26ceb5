"""The files of an evaluation: page, tables, picture, and last the result as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import unet_pipeline
from unet_pipeline.evaluation.standing import Evaluation
from unet_pipeline.records import json_bytes
from unet_pipeline.report.evaluation_page import evaluation_html
from unet_pipeline.report.evaluation_table import case_scores_csv, evaluation_csv
from unet_pipeline.report.speed_plot import speed_plot
from unet_pipeline.selection.entrants import Outcome
from unet_pipeline.storage.store import Store, join

MAX_FIGURES = 6  # cases whose label maps are shown, of both entrants


def write_evaluation(
    store: Store,
    evaluation: Evaluation,
    outcomes: Mapping[str, Outcome],
    context: Mapping[str, str],
) -> None:
    """Write all files of an evaluation below its folder; ``result.json`` comes last."""
    plot = speed_plot(evaluation)
    shown = {**context, "Version": unet_pipeline.__version__}
    page = evaluation_html(evaluation, plot, _figures(store, evaluation, outcomes), shown)
    if plot is not None:
        store.write(join(evaluation.folder, "speed.png"), plot)
    store.write(evaluation.table, evaluation_csv(evaluation).encode())
    scores = case_scores_csv(_case_scores(outcomes))
    store.write(join(evaluation.folder, "cases.csv"), scores.encode())
    store.write(evaluation.report, page.encode())
    store.write(join(evaluation.folder, "result.json"), json_bytes(evaluation.as_dict()))


def _case_scores(outcomes: Mapping[str, Outcome]) -> Iterator[dict[str, Any]]:
    for entrant, outcome in outcomes.items():
        for case in sorted(outcome.scores):
            for label, score in outcome.scores[case].items():
                yield {"case": case, "entrant": entrant, "label": label, **asdict(score)}


def _figures(
    store: Store, evaluation: Evaluation, outcomes: Mapping[str, Outcome]
) -> dict[tuple[str, str], bytes]:
    """Read the pictures of the label maps that differ most."""
    figures = {}
    for found in evaluation.disagreements[:MAX_FIGURES]:
        for name in (found.entrant, found.against):
            outcome = outcomes.get(name)  # a mean over several bundles has no label map
            url = outcome.records[found.case].figure if outcome else None
            if url is not None and store.exists(url):
                figures[name, found.case] = store.read(url)
    return figures
