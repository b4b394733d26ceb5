"""Events of runs that need a look, or are late; automations send them to whoever is to be told."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from threading import Timer
from typing import Any

from prefect.events import emit_event
from prefect.runtime import flow_run

from unet_pipeline.durations import duration_text
from unet_pipeline.local.notifications import ATTENTION, LATE, LATE_FACTOR, SHARE
from unet_pipeline.records import CaseRecord, RunSummary
from unet_pipeline.storage.filesystems import StorageOptions
from unet_pipeline.storage.links import Links

_MOST_CODES = 3


def call_for_attention(
    summary: RunSummary, records: Sequence[CaseRecord], options: StorageOptions
) -> None:
    """Emit an event if the share of cases at fault is that of ``UNET_PIPELINE_ATTENTION_SHARE``."""
    share = os.environ.get(SHARE)
    cases, faults = sum(summary.counts.values()), summary.counts["quarantined"]
    if share is None or not faults or faults < float(share) * cases:
        return
    _tell(
        ATTENTION,
        summary.run_id,
        {
            "sentence": sentence(summary, records),
            "report": Links.from_environment().address(summary.report, options) or summary.report,
            "counts": dict(summary.counts),
        },
    )


@contextmanager
def called_if_late(
    run_id: str, expected: float | None, how_far: Callable[[], str]
) -> Iterator[None]:
    """Emit an event if the block takes ``UNET_PIPELINE_LATE_FACTOR`` times what was expected.

    It is sent once, at that moment, also while no case comes to its end.

    Parameters
    ----------
    expected
        Seconds; None where nothing is known.
    how_far
        Says how many cases are done.
    """
    factor = os.environ.get(LATE_FACTOR)
    if factor is None or expected is None:
        yield
        return
    after = float(factor) * expected
    said = f"after {duration_text(after)}, where {duration_text(expected)} were expected"
    here = copy_context()  # of the flow run, whose thread is another

    def call() -> None:
        here.run(_tell, LATE, run_id, {"sentence": f"{how_far()} {said}"})

    timer = Timer(after, call)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(event: str, run_id: str, payload: Mapping[str, Any]) -> None:
    run = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
           "prefect.resource.role": "flow-run"}  # fmt: skip
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"unet-pipeline.run.{run_id}",
            "prefect.resource.name": f"run {run_id}",
        },
        related=[run] if flow_run.id else [],
        payload=dict(payload),
    )


def sentence(summary: RunSummary, records: Sequence[CaseRecord]) -> str:
    """Say how many cases are at fault, and by which codes most are."""
    codes = Counter(one.code for one in records if one.status == "quarantined")
    said = ", ".join(f"{count} {code}" for code, count in codes.most_common(_MOST_CODES))
    more = len(codes) - _MOST_CODES
    of_model = f" by {summary.model}" if summary.model else ""
    return (
        f"{summary.counts['quarantined']} of {sum(summary.counts.values())} cases{of_model} are "
        f"quarantined: {said}{f' and {more} other codes' if more > 0 else ''}"
    )
