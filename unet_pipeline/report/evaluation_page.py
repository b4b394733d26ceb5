"""The report of ``depths`` and ``compare`` as one HTML file that needs nothing but itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from unet_pipeline.evaluation.records import (
    METRIC_NAMES,
    METRICS,
    Disagreement,
    Evaluation,
)
from unet_pipeline.report.evaluation_table import SCORES, cells, headings, headline, with_interval
from unet_pipeline.report.html import data_uri, render, started
from unet_pipeline.report.overlay import HEIGHT, WIDTH
from unet_pipeline.report.speed_plot import HEIGHT as PLOT_HEIGHT
from unet_pipeline.report.speed_plot import WIDTH as PLOT_WIDTH
from unet_pipeline.report.table import name_of

MAX_LEFT_OUT = 100
MAX_LABELS = 40
_TITLES = {"depths": "Choice of a depth", "compare": "Comparison of bundles"}


@dataclass(frozen=True)
class _Gap:
    """A case on which two candidates differ, and the pictures of both if there are any."""

    found: Disagreement
    pictures: Mapping[str, Markup]


def evaluation_html(
    evaluation: Evaluation,
    plot: bytes | None,
    figures: Mapping[tuple[str, str], bytes],
    context: Mapping[str, str],
) -> str:
    """Return the report as one self-contained HTML page.

    Parameters
    ----------
    plot
        PNG of speed against Dice.
    figures
        PNG bytes of the overlay pictures, by candidate and case.
    context
        What was run, as heading and text in the order to show.
    """
    return render(
        "evaluation.html.j2",
        evaluation=evaluation,
        title=_TITLES[evaluation.kind],
        headline=headline(evaluation),
        started=started(evaluation.run_id),
        context=context,
        table_name="table.csv",
        score_table=_columns(evaluation, list(range(SCORES))),
        cost_table=_columns(evaluation, [0, *range(SCORES, len(headings(evaluation)))]),
        label_rows=_label_rows(evaluation)[:MAX_LABELS],
        metric_names=[METRIC_NAMES[metric] for metric in METRICS],
        plot=None if plot is None else data_uri(plot),
        plot_size=(PLOT_WIDTH, PLOT_HEIGHT),
        figure_size=(WIDTH, HEIGHT),
        gaps=[_gap(one, figures) for one in evaluation.disagreements],
        left_out=evaluation.left_out[:MAX_LEFT_OUT],
        more_left_out=max(len(evaluation.left_out) - MAX_LEFT_OUT, 0),
        tests=[(one, with_interval(one.difference, 4, signed=True))
               for one in evaluation.comparisons],
    )  # fmt: skip


def _columns(evaluation: Evaluation, wanted: list[int]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of some columns."""
    names, rows = headings(evaluation), cells(evaluation)
    return [names[column] for column in wanted], [[row[c] for c in wanted] for row in rows]


def _label_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return candidate, label, and the four metrics with their intervals."""
    return [
        [result.name, name_of(label, evaluation.names)]
        + [with_interval(metrics[m], 2 if m == "hd95_mm" else 3) for m in METRICS]
        for result in evaluation.results
        for label, metrics in result.labels.items()
    ]


def _gap(found: Disagreement, figures: Mapping[tuple[str, str], bytes]) -> _Gap:
    names = (found.candidate, found.against)
    pictures = {
        name: data_uri(figures[name, found.case]) for name in names if (name, found.case) in figures
    }
    return _Gap(found, pictures)
