"""What earlier runs over an output know of the cases that this run was not asked for.

Each run writes ``statistics.csv``: its own cases, and all lines of the tables before it. So the
last table has the whole archive, and nobody reads a hundred thousand records for it.
``archive.json`` beside it, which is written last, says which runs are in it: of runs that went at
the same time neither is in the other, and the next run takes both.
"""

import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from unet_pipeline.errors import PipelineError
from unet_pipeline.evaluation.follow_up import without_session
from unet_pipeline.records import CaseRecord, json_bytes
from unet_pipeline.report.stored_table import StoredTable
from unet_pipeline.storage.store import Store, basename, join
from unet_pipeline.storage.urls import parent

log = logging.getLogger(__name__)

NAME, TABLE = "archive.json", "statistics.csv"
MOST_BYTES = 256 * 2**20  # of a table that is read
MOST_LINES = 100_000  # labels of cases that distributions are learned from
_MOST_OF_MARK = 2**22
_Text = Annotated[str, Field(max_length=2**14)]  # a bound also refuses half a surrogate pair


@dataclass(frozen=True)
class Mark:
    """Of whose label maps a table is.

    Attributes
    ----------
    weights
        Digest of the model's weights.
    labels
        Name of each label, by its number as text.
    runs
        Earlier runs that need not be asked again: of these weights they are in the table.
    """

    weights: _Text
    labels: Mapping[str, _Text]
    runs: tuple[_Text, ...] = ()


@dataclass(frozen=True)
class Archive:
    """The cases of earlier runs.

    Attributes
    ----------
    mark
        What is written beside the table of this run.
    tables
        Their lines, each case in one table.
    records
        Cases that distributions are learned from: all, or as many as ``MOST_LINES`` are.
    cases
        How many there are.
    """

    mark: Mark
    tables: tuple[StoredTable, ...] = ()
    records: tuple[CaseRecord, ...] = ()
    cases: int = 0

    def mark_bytes(self) -> bytes:
        """Return the mark as it is stored."""
        return json_bytes(asdict(self.mark))


def read_archive(store: Store, runs: str, mark: Mark, tonight: Iterable[str]) -> Archive:
    """Return what earlier runs by the same weights know of other cases; nothing where it fails.

    Parameters
    ----------
    runs
        URL of the folder with a folder for each run.
    tonight
        The cases of which this run has the numbers.
    """
    tonight = frozenset(tonight)
    try:
        seen, tables = _tables(store, runs, mark)
        return _of_tables(replace(mark, runs=tuple(sorted(seen))), tables, tonight)
    except PipelineError as error:
        log.warning("the numbers of earlier runs are not counted: %s", error)
        return Archive(mark)


def counted_runs(store: Store, runs: str, mark: Mark) -> frozenset[str]:
    """Return the runs whose cases ``read_archive`` would count; none where it fails."""
    counted: set[str] = set()
    try:
        for folder, there in _marks(store, runs, counted):
            if replace(there, runs=()) == mark:
                size = store.find(join(folder, TABLE))
                if size is not None and size.size <= MOST_BYTES:
                    counted.update(there.runs, [basename(folder)])
    except PipelineError as error:
        log.warning("the numbers of earlier runs are not counted: %s", error)
    return frozenset(counted)


def needed_runs(store: Store, runs: str) -> frozenset[str]:
    """Return the runs whose tables have cases that no later one counts; of each model the newest.

    Raises
    ------
    CaseError
        For a mark that cannot be read.
    """
    needed: set[str] = set()
    counted: dict[str, set[str]] = {}
    for folder, there in _marks(store, runs, ()):
        of_model = counted.setdefault(repr((there.weights, sorted(there.labels.items()))), set())
        if basename(folder) not in of_model:
            needed.add(basename(folder))
            size = store.find(join(folder, TABLE))
            if size is not None and size.size <= MOST_BYTES:
                of_model.update(there.runs)
    return frozenset(needed)


def others_in(store: Store, table: str, cases: Iterable[str]) -> tuple[CaseRecord, ...]:
    """Return the other cases that the table of a run has, as ``Archive.records``."""
    try:
        text = _read_table(store, table)
    except PipelineError:
        return ()
    texts = [] if text is None else [text]
    return _of_tables(Mark("", {}), texts, frozenset(cases)).records


def _tables(store: Store, runs: str, mark: Mark) -> tuple[set[str], list[str]]:
    """Return which runs were seen, and the tables that are not in another, the newest first."""
    seen: set[str] = set()
    tables = []
    for folder, there in _marks(store, runs, seen):
        seen.add(basename(folder))
        text = _read_table(store, join(folder, TABLE)) if replace(there, runs=()) == mark else None
        if text is not None:
            tables.append(text)
            seen.update(there.runs)
    return seen, tables


def _marks(store: Store, runs: str, seen: Container[str]) -> Iterator[tuple[str, Mark]]:
    """Yield folder and mark of each run that is not seen, the newest first."""
    for url in sorted(store.list_files(runs), reverse=True):
        folder = parent(url)
        if basename(url) == NAME and basename(folder) not in seen:
            there = _read_mark(store.read_at_most(url, _MOST_OF_MARK))
            if there is not None:
                yield folder, there


def _read_table(store: Store, url: str) -> str | None:
    """Return a table; None where there is none, or what lies there is too large or no table."""
    there = store.find(url)
    if there is None or there.size > MOST_BYTES:
        return None
    text = store.read_at_most(url, MOST_BYTES).decode("utf-8", "replace")
    return text if StoredTable(text).is_sound else None


def _of_tables(mark: Mark, texts: Iterable[str], tonight: frozenset[str]) -> Archive:
    tables: list[StoredTable] = []
    lines: Counter[str] = Counter()
    for text in texts:
        table = StoredTable(text, tonight.union(lines))
        lines.update(Counter(line.case for line in table.lines()))
        tables.append(table)
    records = tuple(_records(tables, _taken(lines, tonight)))
    return Archive(mark, tuple(tables), records, len(lines))


def _taken(lines: Mapping[str, int], tonight: frozenset[str]) -> set[str]:
    """Return the cases to learn from: the same every night, all scans of a subject or none.

    Scans of tonight's subjects come first, for these are held against them.
    """
    now = {without_session(case) for case in tonight}
    of_subject: dict[str, list[str]] = {}
    for case in lines:
        of_subject.setdefault(without_session(case), []).append(case)

    def order(subject: str) -> tuple[bool, bytes]:
        return subject not in now, sha256(subject.encode("utf-8", "replace")).digest()

    taken: set[str] = set()
    left = MOST_LINES
    for subject in sorted(of_subject, key=order):
        left -= sum(lines[case] for case in of_subject[subject])
        if left < 0:
            break
        taken.update(of_subject[subject])
    return taken


def _records(tables: Iterable[StoredTable], taken: set[str]) -> Iterator[CaseRecord]:
    statistics: dict[str, dict[str, Mapping[str, float | str]]] = {}
    for table in tables:
        for line in table.lines():
            if line.case in taken:
                statistics.setdefault(line.case, {})[line.label] = line.values
    for case, labels in statistics.items():
        yield CaseRecord(case, "skipped", statistics=labels)


def _read_mark(data: bytes) -> Mark | None:
    try:
        return _types().validate_json(data)
    except ValidationError:
        return None


@cache
def _types() -> TypeAdapter[Mark]:
    return TypeAdapter(Mark)
