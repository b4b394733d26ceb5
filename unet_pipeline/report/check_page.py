"""The report of a check as one HTML file: the doubtful pairs first, each with its picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from markupsafe import Markup

from unet_pipeline.records import CheckRecord, CheckSummary
from unet_pipeline.report.check_table import attention_order, reasons
from unet_pipeline.report.html import data_uri, render, started
from unet_pipeline.report.overlay import HEIGHT, WIDTH

MAX_FIGURES = 48
MAX_DOUBTFUL = 200
MAX_ROWS = 300


@dataclass(frozen=True)
class _Doubt:
    """A case that fails or warns, its findings apart, and its picture if there is one."""

    record: CheckRecord
    codes: Sequence[str]
    grave: Sequence[Mapping[str, Any]]
    remarks: Sequence[Mapping[str, Any]]
    fixes: Sequence[str]
    picture: Markup | None


def check_html(
    summary: CheckSummary,
    records: Sequence[CheckRecord],
    figures: Mapping[str, bytes],
    context: Mapping[str, str],
) -> str:
    """Return the report of a check as one self-contained HTML page.

    The page stays small however large the cohort: it shows at most ``MAX_DOUBTFUL`` cases that
    fail or warn and ``MAX_ROWS`` others, and names the table beside it for the rest.

    Parameters
    ----------
    figures
        PNG bytes of the overlay picture of a case, by case name.
    context
        What was checked, as heading and text in the order to show.
    """
    ordered = attention_order(records)
    doubtful = [record for record in ordered if record.verdict != "pass"]
    others = [record for record in ordered if record.verdict == "pass"]
    return render(
        "check.html.j2",
        summary=summary,
        context=context,
        started=started(summary.run_id),
        total=len(records),
        table_name=PurePosixPath(summary.table).name or "check.csv",
        figure_size=(WIDTH, HEIGHT),
        doubts=[_doubt(record, figures) for record in doubtful[:MAX_DOUBTFUL]],
        more_doubts=max(len(doubtful) - MAX_DOUBTFUL, 0),
        rows=others[:MAX_ROWS],
        more_rows=max(len(others) - MAX_ROWS, 0),
    )


def _doubt(record: CheckRecord, figures: Mapping[str, bytes]) -> _Doubt:
    png = figures.get(record.case)
    grave = [finding for finding in record.findings if finding["severity"] != "pass"]
    return _Doubt(
        record,
        reasons(record),
        grave,
        [finding for finding in record.findings if finding["severity"] == "pass"],
        list(dict.fromkeys(finding["fix"] for finding in grave if finding["fix"])),
        None if png is None else data_uri(png),
    )
