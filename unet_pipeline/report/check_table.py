"""The cases of a check as tables: CSV for machines, Markdown and rows for the run's web page."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from unet_pipeline.records import CheckRecord
from unet_pipeline.report.table import Cell, as_code, cell_text, digits, escape_markdown
from unet_pipeline.texts import shown

_GRAVITY = ("fail", "warn", "pass")


def attention_order(records: Iterable[CheckRecord]) -> list[CheckRecord]:
    """Return the records a person should look at first: fail, then warn, the furthest off first."""

    def key(record: CheckRecord) -> tuple[int, float, str]:
        return _GRAVITY.index(record.verdict), -(record.residual_mm or 0.0), record.case

    return sorted(records, key=key)


def reasons(record: CheckRecord) -> list[str]:
    """Return the reason codes of what fails or warns."""
    codes = [finding["code"] for finding in record.findings if finding["severity"] != "pass"]
    return list(dict.fromkeys(codes))


def check_csv(records: Sequence[CheckRecord]) -> str:
    """Return one line per case, in the order given, as RFC 4180.

    The columns are ``case, verdict, codes, residual_mm, message, fixed``; several codes are
    separated by spaces. A text cell that a spreadsheet would run as a formula is prefixed with an
    apostrophe.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["case", "verdict", "codes", "residual_mm", "message", "fixed"])
    for record in records:
        writer.writerow(
            [
                cell_text(record.case),
                record.verdict,
                " ".join(record.codes),
                digits(record.residual_mm, 4),
                cell_text(record.message),
                cell_text("; ".join(record.fixed)),
            ]
        )
    return out.getvalue()


def check_rows(records: Sequence[CheckRecord]) -> list[dict[str, Cell]]:
    """Return one dictionary of JSON types per case, for a table artifact of a run."""
    return [
        {
            "case": shown(record.case),
            "verdict": record.verdict,
            "codes": " ".join(reasons(record)),
            "residual_mm": _rounded(record.residual_mm),
            "message": shown(record.message),
            "fixed": "; ".join(record.fixed),
        }
        for record in records
    ]


def check_markdown(records: Sequence[CheckRecord], limit: int = 100) -> str:
    """Return a Markdown table of at most ``limit`` cases that fail or warn."""
    doubtful = [record for record in records if record.verdict != "pass"]
    if not doubtful:
        return "Every case passes.\n"
    lines = ["| Case | Verdict | Residual (mm) | Reason |", "| --- | --- | ---: | --- |"]
    for record in doubtful[:limit]:
        codes = " ".join(as_code(code) for code in reasons(record))
        cells = (
            as_code(record.case),
            record.verdict,
            digits(record.residual_mm, 3),
            f"{codes} {escape_markdown(record.message)}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    if len(doubtful) > limit:
        lines += ["", f"{len(doubtful) - limit:,} more cases are in `check.csv`."]
    return "\n".join(lines) + "\n"


def _rounded(value: float | None) -> Any:
    return None if value is None else round(value, 4)
