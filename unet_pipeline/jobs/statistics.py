"""``statistics``: numbers about label maps that exist already, and which of them want a look.

Whoever made them; with their images, or alone. A label map per call of the executor.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import unet_pipeline
from unet_pipeline import stopping
from unet_pipeline.checking.pictures import pair_picture
from unet_pipeline.cluster.executor import Executor, cases_at_once
from unet_pipeline.config import StatisticsSettings
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.evaluation.label_statistics import NOTHING
from unet_pipeline.evaluation.review import Review, review
from unet_pipeline.gate.examine import Policy
from unet_pipeline.logs import about
from unet_pipeline.measuring import measure_case
from unet_pipeline.model import policy_of
from unet_pipeline.records import Case, CaseRecord, json_bytes
from unet_pipeline.report.label_sizes import LabelSize, label_sizes
from unet_pipeline.report.review_table import review_csv
from unet_pipeline.report.statistics_page import MAX_FIGURES, statistics_html
from unet_pipeline.report.statistics_table import statistics_csv, statistics_parquet
from unet_pipeline.request import new_run_id, open_store
from unet_pipeline.storage.label_map_cohort import LabelMaps, list_label_maps
from unet_pipeline.storage.outage import find_outage, write_somewhere
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import parent
from unet_pipeline.volume.axes import ANY_NUMBER

MOST_REVIEWS = 100  # that a summary holds; the table has all


@dataclass(frozen=True)
class StatisticsRun:
    """A checked request for ``statistics``."""

    run_id: str
    settings: StatisticsSettings
    store: Store
    policy: Policy
    found: LabelMaps

    @property
    def total(self) -> int:
        """Number of label maps, those at fault included."""
        return len(self.found.cases) + len(self.found.faults)


@dataclass(frozen=True)
class StatisticsSummary:
    """What was measured, over all label maps.

    Attributes
    ----------
    counts
        Label maps by status: ``done`` were measured, of ``skipped`` the own record had all.
    labels
        Name of each label, by its number as text.
    sizes
        Each label over all label maps, in numeric order.
    to_review
        Label maps that want a look, as they are unlike the others.
    reviews
        These, worst first; at most ``MOST_REVIEWS``.
    without
        Images that have no label map.
    report, table
        URLs; empty without an output.
    stopped
        Why it did not come to its end; empty if it did.
    """

    run_id: str
    counts: Mapping[str, int]
    labels: Mapping[str, str]
    sizes: tuple[LabelSize, ...]
    to_review: int
    without: int
    reviews: tuple[Review, ...] = ()
    report: str = ""
    table: str = ""
    stopped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def open_statistics(settings: StatisticsSettings) -> StatisticsRun:
    """List the label maps, and the image of each.

    Raises
    ------
    RequestError
        As ``list_label_maps``; for storage that cannot be reached or written.
    """
    store = open_store(settings.storage)
    found = list_label_maps(
        store,
        settings.labels,
        settings.images,
        mask_pattern=settings.mask_pattern,
        names_url=settings.label_names,
    )
    if settings.output is not None:
        store.check_writable(settings.output)
    policy = replace(policy_of(settings.gate, settings.limits), file_channels=ANY_NUMBER)
    return StatisticsRun(new_run_id(), settings, store, policy, found)


def run_statistics(run: StatisticsRun, executor: Executor) -> Iterator[CaseRecord]:
    """Measure all label maps, several at once, and yield each record as it is ready.

    Raises
    ------
    RunStopped
        Behind the records of those that were under way, for a fault that concerns all.
    """
    yield from (_at_fault(case, error) for case, error in run.found.faults)
    measure = partial(_measure, run, executor=executor)
    yield from stopping.as_ready(cases_at_once(executor), measure, run.found.cases)


def close_statistics(
    run: StatisticsRun, records: Iterable[CaseRecord], *, stopped: RunStopped | None = None
) -> StatisticsSummary:
    """Write report and tables, if there is an output, and return what it came to."""
    records = sorted(
        _with_absent([one for one in records if one.code != stopping.CODE], run.found.names),
        key=lambda one: one.case,
    )
    names = {str(number): name for number, name in run.found.names.items()}
    reviews = review(records, names)
    counts = {
        status: sum(one.status == status for one in records)
        for status in ("done", "skipped", "quarantined")
    }
    so_far = f"{len(records)} of {run.total} measured."
    summary = StatisticsSummary(
        run.run_id,
        counts,
        names,
        tuple(label_sizes(records)),
        len(reviews),
        run.found.without,
        tuple(reviews[:MOST_REVIEWS]),
        stopped="" if stopped is None else f"{so_far} {stopped}",
    )
    if run.settings.output is None:
        return summary

    def lies_in(folder: str, fault: RunStopped | None) -> StatisticsSummary:
        return replace(
            summary,
            report=join(folder, "statistics.html"),
            table=join(folder, "statistics.csv"),
            stopped=summary.stopped or ("" if fault is None else f"{so_far} {fault}"),
        )

    def write(said: StatisticsSummary, store: Store) -> None:
        _write(run, records, reviews, said, store)

    return write_somewhere(run.store, join(run.settings.output, "runs", run.run_id), lies_in, write)


def _measure(run: StatisticsRun, case: Case, executor: Executor) -> CaseRecord:
    """Measure a label map; a fault that concerns all stops the run."""
    try:
        with about(run.run_id, case.name):
            handle = executor.submit(measure_case, run.store, case, run.policy, run.found.names)
            record: CaseRecord = executor.result(handle)
    except RunStopped:
        raise
    except PipelineError as error:  # a worker that was lost, keys that ran out
        record = _at_fault(case, error)
    settings = run.settings
    read = (settings.labels, settings.images)
    outage = find_outage(run.store, record.code, record.message, read, settings.output)
    if outage is not None:
        raise outage
    return record


def _at_fault(case: Case, error: PipelineError) -> CaseRecord:
    said = str(error.about(case.name))
    return CaseRecord(case.name, "quarantined", code=error.code, message=said, output=case.mask)


def _with_absent(records: Sequence[CaseRecord], names: Mapping[int, str]) -> Iterator[CaseRecord]:
    """Say of each label that any label map has that others lack it."""
    every = {label for one in records for label in one.statistics} | set(map(str, names))
    absent = {label: dict(NOTHING) for label in every}
    for one in records:
        known = one.status != "quarantined"
        yield replace(one, statistics=absent | dict(one.statistics)) if known else one


def _write(
    run: StatisticsRun,
    records: Sequence[CaseRecord],
    reviews: Sequence[Review],
    summary: StatisticsSummary,
    store: Store,
) -> None:
    page = statistics_html(
        summary, records, reviews, _figures(run, reviews), _context(run.settings)
    )
    folder, names = parent(summary.report), summary.labels
    store.write(summary.table, statistics_csv(records, names).encode())
    parquet = statistics_parquet(records, names)
    if parquet is not None:
        store.write(join(folder, "statistics.parquet"), parquet)
    store.write(join(folder, "review.csv"), review_csv(reviews, names).encode())
    store.write(summary.report, page.encode())
    store.write(join(folder, "statistics.json"), json_bytes(summary.as_dict()))


def _figures(run: StatisticsRun, reviews: Sequence[Review]) -> dict[str, bytes]:
    """Draw the label maps that most want a look; one that has no image has no picture."""
    cases = {case.name: case for case in run.found.cases}
    drawn = {}
    for one in reviews[:MAX_FIGURES]:
        picture = pair_picture(run.store, cases[one.case], run.policy, run.found.names)
        if picture is not None:
            drawn[one.case] = picture
    return drawn


def _context(settings: StatisticsSettings) -> dict[str, str]:
    return {
        "Label maps": settings.labels,
        "Images": settings.images or "none: the label maps alone",
        "Names": settings.label_names or "as found beside the label maps",
        "Version": unet_pipeline.__version__,
    }
