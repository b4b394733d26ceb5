"""The end of a cohort run: its table, its report, and what it all came to."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote

from unet_pipeline import stopping
from unet_pipeline.archive import NAME as ARCHIVE
from unet_pipeline.archive import TABLE as STATISTICS
from unet_pipeline.archive import Archive, Mark, read_archive
from unet_pipeline.closing_pictures import pictures_of
from unet_pipeline.comparing import (
    LabelMapUrl,
    compared,
    paired,
    write_differences,
)
from unet_pipeline.cost import run_cost
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.evaluation.differences import sentence_of
from unet_pipeline.evaluation.groups import groups_of
from unet_pipeline.evaluation.review import Review, review
from unet_pipeline.records import CaseRecord, RunSummary, json_bytes
from unet_pipeline.report.methods import Methods, methods_of
from unet_pipeline.report.page import report_html
from unet_pipeline.report.review_table import review_csv
from unet_pipeline.report.statistics_table import statistics_csv, statistics_parquet
from unet_pipeline.report.table import cases_csv, name_of
from unet_pipeline.request import rate_of
from unet_pipeline.run_description import context_of, facts_for_methods
from unet_pipeline.run_end import AS_ASKED
from unet_pipeline.runs import Run
from unet_pipeline.storage.outage import write_somewhere
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import parent
from unet_pipeline.viewing.index import NAME as INDEX
from unet_pipeline.viewing.index import RunIndex, index_bytes, index_of

log = logging.getLogger(__name__)

EDITED = "output_foreign"  # the code of a label map that is no longer as its record says


def close_segment(
    run: Run,
    records: Sequence[CaseRecord],
    *,
    seconds: float,
    workers: int,
    stopped: RunStopped | None = None,
    scheduler: str = "",
) -> RunSummary:
    """Write the table and the report of a run, and return its summary.

    Where the output cannot be written they go to a new folder of this machine, which the summary
    names.

    Parameters
    ----------
    records
        Of all cases, those of ``faults_of`` included.
    seconds
        Wall time from the first case to the last.
    stopped
        Why the run did not come to its end, if so.
    scheduler
        What started the run, with its version; empty for nobody.
    """
    records = sorted(
        (record for record in records if record.code != stopping.CODE), key=lambda one: one.case
    )
    counts = {
        status: sum(record.status == status for record in records)
        for status in ("done", "skipped", "quarantined")
    }
    names = {str(number): name for number, name in run.model.bundle.labels.items()}
    in_haste = stopped is not None and stopped.code not in AS_ASKED
    earlier = _earlier(run, records, names, in_haste=in_haste)
    told, others = _told(records, earlier)
    reviews = review(told, names, others=others, groups=groups_of(run.cases))
    cost = run_cost(records, seconds=seconds, workers=workers, rate=rate_of(run.settings.cost))
    summary = RunSummary(
        run_id=run.run_id,
        counts=counts,
        mean_dice=_mean_dice(records),
        labels=names,
        seconds=round(seconds, 3),
        cases_per_minute=60 * counts["done"] / seconds if seconds else 0.0,
        forward_share=cost.busy_share,
        report="",
        table="",
        cost=cost,
        files=None if run.accounting is None else run.accounting.as_dict(),
        to_review=len(reviews),
        model=run.model_name,
        shard=run.settings.shard or "",
        mask_faults=dict(Counter(one.mask_code for one in records if one.mask_code)),
        left=len(run.cases) + len(run.faults) - len(records),
    )

    methods = methods_of(facts_for_methods(run, [*told, *others], counts, scheduler))

    def lies_in(folder: str, fault: RunStopped | None) -> RunSummary:
        why = stopped if in_haste else fault or stopped
        return replace(
            summary,
            report=join(folder, "report.html"),
            table=join(folder, "cases.csv"),
            stopped="" if why is None else _stopped(run, summary, why),
            stop_code="" if why is None else why.code,
        )

    pictures: list[dict[str, bytes]] = []

    def write(said: RunSummary, store: Store) -> None:
        if not pictures:  # they take time, and the report may be written again
            pictures.append(pictures_of(run, told, reviews, said))
        numbers = Numbers(records, told, others, earlier)
        _write_report(run, numbers, reviews, said, store, pictures[0], methods)

    said = write_somewhere(run.store, run.folder, lies_in, write)
    _keep_index(run, records)
    return said if run.old is None or said.stopped else _held_against(run, records, said, write)


def _earlier(
    run: Run, records: Sequence[CaseRecord], names: Mapping[str, str], *, in_haste: bool
) -> Archive:
    """Return what earlier runs know of other cases; a run that is cut short has no time for it.

    A case that is quarantined keeps the numbers of the label map that it has from before.
    """
    mark = Mark(run.facts.weights, names)
    if in_haste:
        return Archive(mark)
    known = {} if run.night is None else run.night.known
    looked_at = (one for one in records if one.case not in known)
    own = (one.case for one in looked_at if one.status != "quarantined" or one.code == EDITED)
    return read_archive(run.store, parent(run.folder), mark, own)


def _told(
    records: Sequence[CaseRecord], earlier: Archive
) -> tuple[list[CaseRecord], list[CaseRecord]]:
    """Return this run's records, with the statistics of those not looked at, and the others."""
    known = {one.case: one.statistics for one in earlier.records}
    mine = {one.case for one in records if one.status == "skipped"}
    told = [
        replace(one, statistics=known[one.case])
        if one.case in mine and one.case in known and not one.statistics
        else one
        for one in records
    ]
    return told, [one for one in earlier.records if one.case not in mine]


def _keep_index(run: Run, records: Sequence[CaseRecord]) -> None:
    """Write what the next run need not look at; without it that takes longer, and no more."""
    if run.night is not None:
        try:
            run.night.close(run.run_id, run.cases, records)
        except PipelineError as error:
            log.warning("the index of finished cases is not written: %s", error)


def _held_against(
    run: Run,
    records: Sequence[CaseRecord],
    said: RunSummary,
    write: Callable[[RunSummary, Store], None],
) -> RunSummary:
    """Hold the label maps against the old ones, and say so in the report, which is there by now."""
    labels = run.facts.labels
    new = {one.case: LabelMapUrl(one.output, labels) for one in records if one.output}
    pairs = paired(run.old or {}, new)
    context = {"Old": str(run.settings.compare_with), "New": run.settings.output}
    try:
        found = write_differences(
            run.store,
            parent(said.report),
            pairs,
            compared(run.store, pairs),
            context=context,
            images={case.name: case.images[0] for case in run.cases},
        )
        lines = [sentence_of(one, name_of(one.label, found.labels)) for one in found.agreements]
        lines += [f"{len(found.left_out)} cases could not be compared"] if found.left_out else []
        said = replace(said, differences=found.report, changes=tuple(lines))
        write(said, run.store)
    except PipelineError as error:
        log.error("not held against %s: %s", run.settings.compare_with, error)  # noqa: TRY400
        return replace(said, changes=(f"not compared: {error}",))
    return said


def _stopped(run: Run, summary: RunSummary, why: RunStopped) -> str:
    counts, total = summary.counts, len(run.cases) + len(run.faults)
    said = f"{counts['done'] + counts['skipped']} of {total} done. {summary.left} left"
    said += f", {counts['quarantined']} quarantined" if counts["quarantined"] else ""
    return f"{said}: {why} Run again: what is done stays."


@dataclass(frozen=True)
class Numbers:
    """What the tables and pages of a run are made of.

    Attributes
    ----------
    records
        Of its cases; without statistics where it did not look at a case.
    told
        The same, with statistics of earlier runs.
    others
        Cases of earlier runs that it was not asked for.
    """

    records: Sequence[CaseRecord]
    told: Sequence[CaseRecord]
    others: Sequence[CaseRecord]
    earlier: Archive


def _write_report(
    run: Run,
    numbers: Numbers,
    reviews: Sequence[Review],
    summary: RunSummary,
    store: Store,
    figures: Mapping[str, bytes],
    methods: Methods,
) -> None:
    folder = parent(summary.report)
    context = context_of(run) | {"To look at cases": f"unet-pipeline view {quote(folder)}"}
    context |= {"Stopped": summary.stopped} if summary.stopped else {}
    records, told, earlier = numbers.records, numbers.told, numbers.earlier
    if numbers.others:
        context["Archive"] = f"{len(numbers.others):,} other cases of earlier runs"
    page = report_html(summary, told, figures, context, reviews, methods, numbers.others)
    store.write(summary.table, cases_csv(told, summary.cost.price, summary.labels).encode())
    store.write(summary.report, page.encode())
    of_labels = statistics_csv(records, summary.labels, earlier.tables)
    store.write(join(folder, STATISTICS), of_labels.encode())
    parquet = statistics_parquet(records, summary.labels, earlier.tables)
    if parquet is not None:
        store.write(join(folder, "statistics.parquet"), parquet)
    store.write(join(folder, "review.csv"), review_csv(reviews, summary.labels).encode())
    store.write(join(folder, INDEX), index_bytes(_index(run, told, reviews, summary.labels)))
    store.write(join(folder, "methods.txt"), methods.text.encode())
    store.write(join(folder, "cost.json"), json_bytes(summary.cost.as_dict()))
    store.write(join(folder, "run.json"), json_bytes(summary.as_dict()))
    store.write(join(folder, ARCHIVE), earlier.mark_bytes())


def _index(
    run: Run, records: Sequence[CaseRecord], reviews: Sequence[Review], names: Mapping[str, str]
) -> RunIndex:
    """Return the list that the viewer goes by."""
    output, model = run.settings.output, run.model.bundle.name
    return index_of(run.run_id, model, output, run.cases, records, reviews, names)


def _mean_dice(records: Sequence[CaseRecord]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for record in records:
        for label, dice in (record.dice or {}).items():
            if dice is not None:
                values.setdefault(label, []).append(dice)
    return {label: sum(dice) / len(dice) for label, dice in sorted(values.items())}
