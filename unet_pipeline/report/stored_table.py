"""``statistics.csv`` as a run left it, line by line; read as a stranger's file."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from unet_pipeline.report.table import is_formula

FIRST = ("case", "label", "name")
MOST_DIGITS = 64  # of a label
_MOST = 1e15  # of a number: larger ones, and those that are none, are texts


@dataclass(frozen=True)
class Line:
    """A label of a case, and its statistics by their names."""

    case: str
    label: str
    name: str
    values: Mapping[str, float | str]


@dataclass(frozen=True)
class StoredTable:
    """The lines of a table, but for those of some cases.

    Attributes
    ----------
    text
        The table, held once: its lines are read from it whenever they are asked for.
    without
        Cases that are left out.
    """

    text: str = field(repr=False)
    without: frozenset[str] = frozenset()

    @property
    def is_sound(self) -> bool:
        """Whether it is such a table at all, and all of it can be read."""
        try:
            first = next(self._rows(), [])
            is_table = tuple(first[: len(FIRST)]) == FIRST and len(set(first)) == len(first)
            return is_table and all(self._rows())
        except csv.Error:
            return False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the statistics."""
        return tuple(next(self._rows())[len(FIRST) :])

    def lines(self) -> Iterator[Line]:
        """Yield the lines; those that lack a column are passed over."""
        columns, rows = self.columns, self._rows()
        next(rows)
        for row in rows:
            if len(row) != len(FIRST) + len(columns) or len(row[1]) > MOST_DIGITS:
                continue
            case = row[0][1:] if row[0][:1] == "'" and is_formula(row[0][1:]) else row[0]
            if case in self.without:
                continue
            cells = zip(columns, row[len(FIRST) :], strict=True)
            yield Line(case, row[1], row[2], {name: _value(cell) for name, cell in cells if cell})

    def _rows(self) -> Iterator[list[str]]:
        return csv.reader(io.StringIO(self.text, newline=""))


def _value(cell: str) -> float | str:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if abs(number) < _MOST else cell
