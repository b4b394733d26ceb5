"""The label maps of a run that want a look, for its page and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

from unet_pipeline.evaluation.review import Review
from unet_pipeline.report.table import cell_text, name_of


def reasons(one: Review, names: Mapping[str, str]) -> list[str]:
    """Return why a case wants a look, the gravest reason first.

    Parameters
    ----------
    names
        Name of each label, by its number as text.
    """
    return [f"{_called(doubt.label, names)}: {doubt.what}" for doubt in one.doubts]


def _called(label: str, names: Mapping[str, str]) -> str:
    name = name_of(label, names)
    return f"label {name}" if name == label else name


def review_csv(reviews: Sequence[Review], names: Mapping[str, str]) -> str:
    """Return lines of ``case, score, reasons``, worst first; RFC 4180, as ``cases_csv``."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["case", "score", "reasons"])
    for one in reviews:
        why = cell_text("; ".join(reasons(one, names)))
        writer.writerow([cell_text(one.case), f"{one.score:.1f}", why])
    return out.getvalue()
