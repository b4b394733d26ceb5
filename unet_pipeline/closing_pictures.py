"""The pictures of a run's report: those of label maps, and of doubts where they are."""

from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from unet_pipeline.errors import PipelineError
from unet_pipeline.evaluation.review import Review
from unet_pipeline.records import CaseRecord, RunSummary
from unet_pipeline.report.doubt_pictures import doubt_png
from unet_pipeline.report.page import MAX_DOUBTS, MAX_FIGURES
from unet_pipeline.report.table import attention_order
from unet_pipeline.runs import Run

_DRAWING_SECONDS = 60.0  # for pictures of doubts


def pictures_of(
    run: Run, records: Sequence[CaseRecord], reviews: Sequence[Review], summary: RunSummary
) -> dict[str, bytes]:
    """Return a picture of each case that the report shows, by case name, as PNG."""
    figures = _figures(run, records, reviews)
    if not summary.stopped:  # a signal leaves no time
        figures |= _of_doubts(run, records, reviews)
    return figures


def _figures(
    run: Run, records: Sequence[CaseRecord], reviews: Sequence[Review]
) -> dict[str, bytes]:
    """Read the pictures that the report shows: the cases that most want a look."""
    place = {one.case: index for index, one in enumerate(reviews)}
    drawn = [record for record in attention_order(records) if record.figure is not None]
    drawn.sort(key=lambda record: place.get(record.case, len(place)))
    figures = {}
    for record in drawn[:MAX_FIGURES]:
        with suppress(PipelineError):  # a report without a picture is better than none
            if record.figure is not None and run.store.exists(record.figure):
                figures[record.case] = run.store.read(record.figure)
    return figures


def _of_doubts(
    run: Run, records: Sequence[CaseRecord], reviews: Sequence[Review]
) -> dict[str, bytes]:
    """Draw the most doubtful cases where the doubt is, as many as there is time for."""
    cases = {case.name: case for case in run.cases}
    outputs = {record.case: record.output for record in records}
    names, deadline = run.model.bundle.labels, monotonic() + _DRAWING_SECONDS
    figures = {}
    for one in reviews[:MAX_DOUBTS]:
        case, output = cases.get(one.case), outputs.get(one.case)
        if case is None or not output or monotonic() > deadline:
            continue
        with suppress(PipelineError):  # it keeps the picture that it has
            png = doubt_png(run.store, case.images[0], output, one.doubts[0], names)
            if png is not None:
                figures[one.case] = png
    return figures
