"""The statistics of all label maps of a run as tables: one line for each label of each case."""

import csv
import heapq
import io
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from unet_pipeline.records import CaseRecord
from unet_pipeline.report.stored_table import FIRST, Line, StoredTable
from unet_pipeline.report.table import cell_text, label_order, name_of
from unet_pipeline.texts import shown

_TEXTS = frozenset({"cut"})  # columns that are no numbers; empty for none
_LINES_AT_ONCE = 20_000
_DIGITS = 9  # of a label that is a 32-bit integer

_T = TypeVar("_T")


def statistics_csv(
    records: Sequence[CaseRecord],
    names: Mapping[str, str],
    before: Sequence[StoredTable] = (),
) -> str:
    """Return lines of ``case, label, name`` and a column for each statistic that a record has.

    Cases are in the order given, labels in numeric order, and numbers as they are in the records.
    RFC 4180, as ``cases_csv``.

    Parameters
    ----------
    names
        Name of each label, by its number as text.
    before
        Lines of other cases, sorted by case as the records then are, too.
    """
    columns = _columns(records, before)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*FIRST, *map(cell_text, columns)])
    for line in _lines(records, names, before):
        texts = map(cell_text, (line.case, line.label, line.name))
        writer.writerow([*texts, *(_cell(line.values.get(column)) for column in columns)])
    return out.getvalue()


def statistics_parquet(
    records: Sequence[CaseRecord],
    names: Mapping[str, str],
    before: Sequence[StoredTable] = (),
) -> bytes | None:
    """Return the same as Parquet; None where pyarrow (extra ``parquet``) is not installed.

    Numbers are doubles, null where there is none; a label is an integer, and null where it is none.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return None
    columns = _columns(records, before)
    texts = _TEXTS | {
        column
        for line in _lines(records, names, before)
        for column, value in line.values.items()
        if isinstance(value, str)
    }
    schema = pa.schema(
        [("case", pa.string()), ("label", pa.int32()), ("name", pa.string())]
        + [(shown(one), pa.string() if one in texts else pa.float64()) for one in columns]
    )
    out = io.BytesIO()
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        # in parts, for the lines of a large archive as objects are much larger than their table
        for part in _batched(_lines(records, names, before), _LINES_AT_ONCE):
            writer.write_batch(pa.record_batch(_arrays(part, columns, texts), schema=schema))
    return out.getvalue()


def _arrays(lines: Sequence[Line], columns: Sequence[str], texts: Container[str]) -> list[Any]:
    """Return the values of each column of some lines, as Parquet has them."""
    arrays: list[Any] = [
        [shown(line.case) for line in lines],
        [int(line.label) if _is_label(line.label) else None for line in lines],
        [line.name for line in lines],
    ]
    for column in columns:
        values = [line.values.get(column) for line in lines]
        if column in texts:
            arrays.append(["" if value is None else shown(str(value)) for value in values])
        else:
            arrays.append([None if value is None else float(value) for value in values])
    return arrays


def _columns(records: Sequence[CaseRecord], before: Sequence[StoredTable]) -> list[str]:
    """Return the names of all statistics that any line has, in their order."""
    every = (values for record in records for values in record.statistics.values())
    found = dict.fromkeys(column for values in every for column in values)
    return list(found | dict.fromkeys(column for table in before for column in table.columns))


def _lines(
    records: Sequence[CaseRecord], names: Mapping[str, str], before: Sequence[StoredTable]
) -> Iterator[Line]:
    own = (
        Line(record.case, label, name_of(label, names), record.statistics[label])
        for record in records
        for label in sorted(record.statistics, key=label_order)
    )
    return heapq.merge(own, *(table.lines() for table in before), key=lambda line: line.case)


def _batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


def _cell(value: float | str | None) -> str:
    return cell_text(value) if value is None or isinstance(value, str) else f"{value:.10g}"
