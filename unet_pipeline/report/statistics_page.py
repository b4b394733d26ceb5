"""The report of ``statistics`` as one HTML file that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from unet_pipeline.evaluation.doubts import LEAST_CASES
from unet_pipeline.evaluation.review import Review
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.html import data_uri, render, started
from unet_pipeline.report.label_sizes import LabelSize
from unet_pipeline.report.overlay import HEIGHT, WIDTH
from unet_pipeline.report.page import MAX_REASONS, MAX_REVIEWS, MAX_SIZES, label_shown
from unet_pipeline.report.review_table import reasons

MAX_FIGURES = 24
MAX_LEFT_OUT = 200


class _Summary(Protocol):
    """What the page says of all label maps."""

    @property
    def run_id(self) -> str:
        """Sortable identifier."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Label maps by status."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Name of each label, by its number as text."""

    @property
    def sizes(self) -> Sequence[LabelSize]:
        """Each label over all label maps."""

    @property
    def to_review(self) -> int:
        """Label maps that want a look."""

    @property
    def without(self) -> int:
        """Images that have no label map."""


def statistics_html(
    summary: _Summary,
    records: Sequence[CaseRecord],
    reviews: Sequence[Review],
    figures: Mapping[str, bytes],
    context: Mapping[str, str],
) -> str:
    """Return the report.

    Parameters
    ----------
    reviews
        Label maps that want a look, worst first.
    figures
        PNG bytes of some of them, by case.
    context
        What was measured, as heading and text.
    """
    names = summary.labels
    shown = [
        (one.case, reasons(one, names)[:MAX_REASONS], _picture(figures.get(one.case)))
        for one in reviews[:MAX_REVIEWS]
    ]
    left_out = [one for one in records if one.status == "quarantined"]
    sizes = summary.sizes
    return render(
        "statistics.html.j2",
        summary=summary,
        context=context,
        started=started(summary.run_id),
        figure_size=(WIDTH, HEIGHT),
        reviews=shown,
        more_reviews=len(reviews) - len(shown),
        least=LEAST_CASES,
        is_known=any(one.present >= LEAST_CASES for one in sizes),
        sizes=[(label_shown(one.label, names), one) for one in sizes[:MAX_SIZES]],
        more_sizes=max(len(sizes) - MAX_SIZES, 0),
        left_out=left_out[:MAX_LEFT_OUT],
        more_left_out=max(len(left_out) - MAX_LEFT_OUT, 0),
    )


def _picture(png: bytes | None) -> str | None:
    return None if png is None else data_uri(png)
