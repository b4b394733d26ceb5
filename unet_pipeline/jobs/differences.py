"""``differences``: what changed between two sets of label maps of the same cases; no masks needed.

Both are outputs of ``segment``: of two models, two versions, two settings. Cases are found by their
records and held together by their names.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from unet_pipeline.comparing import (
    LabelMapPairs,
    compared,
    finished_below,
    lies_within,
    none_in_common,
    paired,
    summarised,
    write_differences,
)
from unet_pipeline.config import DifferencesSettings
from unet_pipeline.errors import CaseError
from unet_pipeline.evaluation.differences import CaseDifference, DifferencesSummary
from unet_pipeline.request import new_run_id, open_store
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import is_below


@dataclass(frozen=True)
class DifferencesRun:
    """A checked request for ``differences``."""

    run_id: str
    settings: DifferencesSettings
    store: Store
    pairs: LabelMapPairs


def open_differences(settings: DifferencesSettings) -> DifferencesRun:
    """List both outputs. Where one lies within the other, it is no part of that.

    Raises
    ------
    RequestError
        ``differences_empty`` if they have no finished case in common; ``differences_ambiguous``;
        for storage that cannot be reached or written.
    """
    store = open_store(settings.storage)
    old, new = settings.old, settings.new
    of_old = finished_below(store, old, lambda url: lies_within(new, old) and is_below(url, new))
    of_new = finished_below(store, new, lambda url: lies_within(old, new) and is_below(url, old))
    pairs = paired(of_old, of_new)
    if not pairs.both:
        raise none_in_common(len(of_old), len(of_new), (old, new))
    if settings.output is not None:
        store.check_writable(settings.output)
    return DifferencesRun(new_run_id(), settings, store, pairs)


def run_differences(run: DifferencesRun) -> Iterator[CaseDifference | CaseError]:
    """Yield what changed in each case, or why that cannot be said, as it is ready."""
    yield from compared(run.store, run.pairs)


def close_differences(
    run: DifferencesRun, found: Iterable[CaseDifference | CaseError]
) -> DifferencesSummary:
    """Write report and table, if there is an output, and return what changed over all cases."""
    if run.settings.output is None:
        return summarised(run.pairs, found)[0]
    folder = join(run.settings.output, "runs", run.run_id)
    context = {"Old": run.settings.old, "New": run.settings.new}
    return write_differences(run.store, folder, run.pairs, found, context=context)
