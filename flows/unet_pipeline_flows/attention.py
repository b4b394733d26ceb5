"""The event of a run that needs a look; an automation sends it to whoever is to be told."""

import os
from collections import Counter
from collections.abc import Sequence

from prefect.events import emit_event
from prefect.runtime import flow_run

from unet_pipeline.local.notifications import ATTENTION, SHARE
from unet_pipeline.records import CaseRecord, RunSummary

_MOST_CODES = 3


def call_for_attention(summary: RunSummary, records: Sequence[CaseRecord]) -> None:
    """Emit an event if the share of cases at fault is that of ``UNET_PIPELINE_ATTENTION_SHARE``."""
    share = os.environ.get(SHARE)
    cases, faults = sum(summary.counts.values()), summary.counts["quarantined"]
    if share is None or not faults or faults < float(share) * cases:
        return
    run = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
           "prefect.resource.role": "flow-run"}  # fmt: skip
    emit_event(
        ATTENTION,
        resource={
            "prefect.resource.id": f"unet-pipeline.run.{summary.run_id}",
            "prefect.resource.name": f"run {summary.run_id}",
        },
        related=[run] if flow_run.id else [],
        payload={
            "sentence": sentence(summary, records),
            "report": summary.report,
            "counts": dict(summary.counts),
        },
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
