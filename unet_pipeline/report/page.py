"""The report of a run as one HTML file that needs nothing but itself.

Style and script stand in the page, pictures are data URIs, and a content security policy names the
digests of that style and script: a browser runs nothing else and asks no other place for anything.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from markupsafe import Markup

from unet_pipeline.evaluation.review import Review
from unet_pipeline.records import CaseRecord, RunSummary, json_text
from unet_pipeline.report.cost import shares_of
from unet_pipeline.report.html import data_uri, render, started
from unet_pipeline.report.label_sizes import label_sizes
from unet_pipeline.report.methods import Methods
from unet_pipeline.report.overlay import HEIGHT, WIDTH
from unet_pipeline.report.palette import label_colour
from unet_pipeline.report.review_table import reasons
from unet_pipeline.report.small_pictures import smaller
from unet_pipeline.report.table import attention_order, label_order, labels_of, name_of, number
from unet_pipeline.texts import shown

MAX_QUARANTINED, FAULTS_AT_ONCE = 200, 12
MAX_ROWS, ROWS_AT_ONCE = 10_000, 100
MAX_FIGURES, MOST_PICTURE_BYTES = 48, 2_500_000
MAX_LABEL_COLUMNS = 8
MAX_SIZES = 120
MAX_REVIEWS, MAX_REASONS, MAX_DOUBTS = 100, 4, 12  # the last: with their picture

_MESSAGE = re.compile(r"(?P<fault>found .*?; wanted .*?\.) (?P<remedy>[A-Z].*)", re.DOTALL)


@dataclass(frozen=True)
class _Fault:
    """A quarantined case, in words."""

    case: str
    code: str
    sentence: str
    remedy: str


@dataclass(frozen=True)
class _Label:
    """A label, its colour (``#rrggbb``, or empty if it is not a number) and its mean Dice.

    ``name`` is its number, as cases have it; ``shown`` is what people call it.
    """

    name: str
    shown: str
    colour: str
    dice: float | None = None


@dataclass(frozen=True)
class _Figure:
    """The picture of a case as a data URI, and the name of its place on the page."""

    record: CaseRecord
    anchor: str
    uri: Markup


def report_html(
    summary: RunSummary,
    records: Sequence[CaseRecord],
    figures: Mapping[str, bytes],
    context: Mapping[str, str],
    reviews: Sequence[Review] = (),
    methods: Methods | None = None,
    earlier: Sequence[CaseRecord] = (),
) -> str:
    """Return the report of a run as one self-contained HTML page.

    The page stays small however large the cohort: it shows at most ``MAX_QUARANTINED`` quarantined
    cases, ``MAX_ROWS`` others, ``ROWS_AT_ONCE`` of them at a time, and ``MAX_FIGURES`` pictures,
    worst Dice first, and names the table beside it (``summary.table``) for the rest.

    Parameters
    ----------
    figures
        PNG bytes of the overlay picture of a case, by case name.
    context
        What was run, as heading and text in the order to show: model, images, output, and so on.
    reviews
        Label maps that want a look, worst first; their pictures come first.
    methods
        A paragraph for a paper.
    earlier
        Other cases of earlier runs, for the sizes of labels.
    """
    ordered = attention_order(records)
    place = {one.case: index for index, one in enumerate(reviews)}
    ordered.sort(key=lambda record: place.get(record.case, len(place)))
    return render(
        "run.html.j2",
        summary=summary,
        context=context,
        methods=methods,
        table_name=PurePosixPath(summary.table).name or "cases.csv",
        figure_size=(WIDTH, HEIGHT),
        **_headline(summary),
        **_cases(ordered, figures, summary.labels),
        **_reviews(reviews, summary.labels),
        **_sizes([*records, *earlier], summary.labels),
    )


def _headline(summary: RunSummary) -> dict[str, object]:
    dice = {label: number(value) for label, value in summary.mean_dice.items()}
    known = [value for value in dice.values() if value is not None]
    return {
        "started": started(summary.run_id),
        "total": sum(summary.counts.values()),
        "label_dice": [
            label_shown(name, summary.labels, dice[name]) for name in sorted(dice, key=label_order)
        ],
        "overall_dice": sum(known) / len(known) if known else None,
        "shares": shares_of(summary.cost),
    }


def _reviews(reviews: Sequence[Review], names: Mapping[str, str]) -> dict[str, object]:
    shown = [(one.case, reasons(one, names)[:MAX_REASONS]) for one in reviews[:MAX_REVIEWS]]
    in_list = [one.case for one in reviews[:MAX_DOUBTS]]
    more = len(reviews) - len(shown)
    return {
        "reviews": shown,
        "more_reviews": more,
        "max_doubts": MAX_DOUBTS,
        "in_list": in_list,
    }


def _sizes(records: Sequence[CaseRecord], names: Mapping[str, str]) -> dict[str, object]:
    sizes = label_sizes(records, of_run=True)
    shown = [(label_shown(size.label, names), size) for size in sizes[:MAX_SIZES]]
    return {"sizes": shown, "more_sizes": len(sizes) - len(shown)}


def _cases(
    ordered: Sequence[CaseRecord], figures: Mapping[str, bytes], names: Mapping[str, str]
) -> dict[str, object]:
    """Return what the page shows of the cases, and how many of each it leaves out."""
    faulty = [record for record in ordered if record.status == "quarantined"]
    others = [record for record in ordered if record.status != "quarantined"]
    bad_masks = [r for r in others if r.mask_code not in {"", "mask_missing"}]
    drawn = [record for record in ordered if record.case in figures]
    labels = labels_of(ordered)
    pictures = _pictures(drawn, figures)
    anchors = {figure.record.case: figure.anchor for figure in pictures}
    return {
        "faults": [_fault(record) for record in faulty[:MAX_QUARANTINED]],
        "faults_at_once": FAULTS_AT_ONCE,
        "fault_counts": Counter(record.code for record in faulty).most_common(),
        "more_faults": max(len(faulty) - MAX_QUARANTINED, 0),
        "mask_faults": bad_masks[:MAX_QUARANTINED],
        "more_mask_faults": max(len(bad_masks) - MAX_QUARANTINED, 0),
        "rows": others[:ROWS_AT_ONCE],
        "all_rows": _data(others[:MAX_ROWS], anchors, labels[:MAX_LABEL_COLUMNS]),
        "more_rows": max(len(others) - MAX_ROWS, 0),
        "labels": [label_shown(name, names) for name in labels[:MAX_LABEL_COLUMNS]],
        "more_labels": max(len(labels) - MAX_LABEL_COLUMNS, 0),
        "pictures": pictures,
        "of_case": {figure.record.case: figure for figure in pictures},
        "more_pictures": len(drawn) - len(pictures),
        "anchors": anchors,
    }


def _pictures(drawn: Sequence[CaseRecord], figures: Mapping[str, bytes]) -> list[_Figure]:
    """Return the pictures of the first cases, as many as the page has room for."""
    found: list[_Figure] = []
    left = MOST_PICTURE_BYTES
    for index, record in enumerate(drawn[:MAX_FIGURES], start=1):
        uri = data_uri(*smaller(figures[record.case]))
        left -= len(uri)
        if left < 0:
            break
        found.append(_Figure(record, f"picture-{index}", uri))
    return found


def _data(
    records: Sequence[CaseRecord], anchors: Mapping[str, str], labels: Sequence[str]
) -> Markup:
    """Return the rows of all cases as JSON that can stand in the page; its script shows a part."""
    rows = [
        [
            [shown(record.case), anchors.get(record.case, "")],
            [record.status, shown(record.code)],
            *([_rounded(record.mean_dice)] if labels else []),
            *(_rounded((record.dice or {}).get(label)) for label in labels),
            _rounded(record.seconds.get("total"), 1),
            shown(record.output or ""),
        ]
        for record in records
    ]
    text = json_text(rows, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)  # noqa: S704 - nothing in it ends the element


def _rounded(value: float | None, places: int = 3) -> float | None:
    finite = number(value)
    return None if finite is None else round(finite, places)


def _fault(record: CaseRecord) -> _Fault:
    """Return a quarantined case in words; the sentence and the remedy of its message apart."""
    message = record.message.removeprefix(f"{record.case}: ")
    parts = _MESSAGE.fullmatch(message)
    sentence, remedy = (parts["fault"], parts["remedy"]) if parts else (message, "")
    return _Fault(record.case, record.code, sentence[:1].upper() + sentence[1:], remedy)


def label_shown(name: str, names: Mapping[str, str], dice: float | None = None) -> _Label:
    """Return what a page shows of a label."""
    is_number = name.isascii() and name.isdigit()
    return _Label(name, name_of(name, names), label_colour(int(name)) if is_number else "", dice)
