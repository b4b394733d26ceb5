"""The statistics of all label maps of a run, as CSV: one line for each label of each case."""

import csv
import io
from collections.abc import Mapping, Sequence

from unet_pipeline.records import CaseRecord
from unet_pipeline.report.table import cell_text, label_order, name_of


def statistics_csv(records: Sequence[CaseRecord], names: Mapping[str, str]) -> str:
    """Return lines of ``case, label, name`` and a column for each statistic that a record has.

    Cases are in the order given, labels in numeric order, and numbers as they are in the records.
    RFC 4180, as ``cases_csv``.

    Parameters
    ----------
    names
        Name of each label, by its number as text.
    """
    columns = list(
        dict.fromkeys(
            column
            for record in records
            for values in record.statistics.values()
            for column in values
        )
    )
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["case", "label", "name", *map(cell_text, columns)])
    for record in records:
        for label in sorted(record.statistics, key=label_order):
            values = record.statistics[label]
            numbers = [_cell(values.get(name, "")) for name in columns]
            name = cell_text(name_of(label, names))
            writer.writerow([cell_text(record.case), cell_text(label), name, *numbers])
    return out.getvalue()


def _cell(value: float | str) -> str:
    return cell_text(value) if isinstance(value, str) else f"{value:.10g}"
