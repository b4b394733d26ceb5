"""The report of a run as one HTML file that needs nothing but itself.

Style and script stand in the page, pictures are data URIs, and a content security policy names the
digests of that style and script: a browser runs nothing else and asks no other place for anything.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unet_pipeline import __version__
from unet_pipeline.records import CaseRecord, RunSummary
from unet_pipeline.report.overlay import HEIGHT, WIDTH
from unet_pipeline.report.palette import label_colour
from unet_pipeline.report.table import attention_order, clean, label_order, labels_of, number

MAX_QUARANTINED = 200
MAX_ROWS = 300
MAX_FIGURES = 48
MAX_LABEL_COLUMNS = 8

_NONE = "\N{EN DASH}"
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
    """A label, its colour (``#rrggbb``, or empty if it is not a number) and its mean Dice."""

    name: str
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
) -> str:
    """Return the report of a run as one self-contained HTML page.

    The page stays small however large the cohort: it shows at most ``MAX_QUARANTINED`` quarantined
    cases, ``MAX_ROWS`` others and ``MAX_FIGURES`` pictures, worst Dice first, and names the table
    beside it (``summary.table``) for the rest.

    Parameters
    ----------
    figures
        PNG bytes of the overlay picture of a case, by case name.
    context
        What was run, as heading and text in the order to show: model, images, output, and so on.
    """
    style, script = _asset("run.css"), _asset("run.js")
    page = (
        _environment()
        .get_template("run.html.j2")
        .render(
            style=style,
            script=script,
            policy=_policy(style, script),
            version=__version__,
            summary=summary,
            context=context,
            table_name=PurePosixPath(summary.table).name or "cases.csv",
            figure_size=(WIDTH, HEIGHT),
            **_headline(summary),
            **_cases(attention_order(records), figures),
        )
    )
    return clean(page)


def _headline(summary: RunSummary) -> dict[str, object]:
    dice = {label: number(value) for label, value in summary.mean_dice.items()}
    known = [value for value in dice.values() if value is not None]
    return {
        "started": _started(summary.run_id),
        "total": sum(summary.counts.values()),
        "label_dice": [_label(name, dice[name]) for name in sorted(dice, key=label_order)],
        "overall_dice": sum(known) / len(known) if known else None,
    }


def _cases(ordered: Sequence[CaseRecord], figures: Mapping[str, bytes]) -> dict[str, object]:
    """Return what the page shows of the cases, and how many of each it leaves out."""
    faulty = [record for record in ordered if record.status == "quarantined"]
    others = [record for record in ordered if record.status != "quarantined"]
    drawn = [record for record in ordered if record.case in figures]
    labels = labels_of(ordered)
    pictures = [
        _Figure(record, f"picture-{index}", _data_uri(figures[record.case]))
        for index, record in enumerate(drawn[:MAX_FIGURES], start=1)
    ]
    return {
        "faults": [_fault(record) for record in faulty[:MAX_QUARANTINED]],
        "fault_counts": Counter(record.code for record in faulty).most_common(),
        "more_faults": max(len(faulty) - MAX_QUARANTINED, 0),
        "rows": others[:MAX_ROWS],
        "more_rows": max(len(others) - MAX_ROWS, 0),
        "labels": [_label(name) for name in labels[:MAX_LABEL_COLUMNS]],
        "more_labels": max(len(labels) - MAX_LABEL_COLUMNS, 0),
        "pictures": pictures,
        "more_pictures": len(drawn) - len(pictures),
        "anchors": {figure.record.case: figure.anchor for figure in pictures},
    }


def _fault(record: CaseRecord) -> _Fault:
    """Return a quarantined case in words; the sentence and the remedy of its message apart."""
    message = record.message.removeprefix(f"{record.case}: ")
    parts = _MESSAGE.fullmatch(message)
    sentence, remedy = (parts["fault"], parts["remedy"]) if parts else (message, "")
    return _Fault(record.case, record.code, sentence[:1].upper() + sentence[1:], remedy)


def _label(name: str, dice: float | None = None) -> _Label:
    is_number = name.isascii() and name.isdigit()
    return _Label(name, label_colour(int(name)) if is_number else "", dice)


def _data_uri(png: bytes) -> Markup:
    return Markup("data:image/png;base64,") + base64.b64encode(png).decode("ascii")


def _started(run_id: str) -> str:
    """Return the time in a run identifier for people, or nothing if it holds none."""
    try:
        moment = datetime.strptime(run_id[:16], "%Y%m%dT%H%M%S%z")
    except ValueError:
        return ""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _policy(style: Markup, script: Markup) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _asset(name: str) -> Markup:
    text = files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - our own file, not input


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("unet_pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": _fixed, "duration": _duration, "mean": _mean_dice}
    return environment


def _fixed(value: float | None, places: int) -> str:
    finite = number(value)
    return _NONE if finite is None else f"{finite:.{places}f}"


def _mean_dice(record: CaseRecord) -> float | None:
    return number(record.mean_dice)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
