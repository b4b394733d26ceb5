"""Who is told: automations of a Prefect server, which send what happened to a notification block.

The block is made by whoever may know its address (Prefect's page: Blocks): Slack, Teams, mail, a
webhook. Its secret stays there. A message has the run, its counts and a link, and nothing of a
patient: what a state of a run may say (P10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.local.prefect_server import PrefectServer

NAMES = "unet-pipeline: "
ATTENTION = "unet-pipeline.run.needs-attention"  # the event of a run with many cases at fault
LATE = "unet-pipeline.run.late"  # that of one that takes longer than its cases did before
SHARE, LATE_FACTOR = "UNET_PIPELINE_ATTENTION_SHARE", "UNET_PIPELINE_LATE_FACTOR"
LINK = "{{ flow_run|ui_url }}"
_RUN = "{{ flow.name }} {{ flow_run.name }}"
_Match = Mapping[str, str | list[str]]
_FAILED: _Match = {
    "prefect.resource.id": "prefect.flow-run.*",
    "prefect.state-type": ["FAILED", "CRASHED"],
}  # fmt: skip  whatever its name
_ENDS = [  # what the state of a run is called that has ended; events have no other mark
    f"prefect.flow-run.{name}"
    for name in ("Completed", "CompletedWithFaults", "Failed", "WrongRequest", "StoppedByFault",
                 "StoppedAsAsked", "Crashed", "TimedOut", "Cancelled")
]  # fmt: skip
_HOUR = 3600.0


@dataclass(frozen=True)
class Notify:
    """Who is told of what.

    Attributes
    ----------
    block
        ``type/name`` of a notification block, such as ``slack-webhook/imaging``.
    share
        Share of cases at fault from which on a run needs a look.
    factor
        How many times what was expected a run may take, before somebody is told.
    late_hours
        How long a run may take at all.
    begin_hours
        How long a run that is due may wait for a worker.
    night_hours
        How long after one run of ``segment/nightly`` began the next must begin.
    """

    block: str
    share: float = 0.1
    factor: float = 2.0
    late_hours: float = 12.0
    begin_hours: float = 1.0
    night_hours: float = 26.0

    @property
    def environment(self) -> dict[str, str]:
        """What a worker is told, so that its runs send their events."""
        return {SHARE: str(self.share), LATE_FACTOR: str(self.factor)}


def register(server: PrefectServer, notify: Notify) -> None:
    """Register the automations, in the place of those that were registered before.

    Raises
    ------
    RequestError
        ``notify_block_missing``.
    """
    kind, _, name = notify.block.partition("/")
    found = server.api(f"/block_types/slug/{kind}/block_documents/name/{name}") if name else None
    if found is None:
        raise RequestError(
            "notify_block_missing",
            subject=f"--notify {notify.block}",
            found="no block of this type and name on the server",
            wanted="a notification block, such as slack-webhook/imaging",
            remedy="Make it on the page (Blocks > +), then start again",
        )
    wanted = automations(found["id"], notify)
    for old in server.api("/automations/filter", {}):
        if old["name"].startswith(NAMES):
            server.api(f"/automations/{old['id']}", method="DELETE")
    for one in wanted:
        server.api("/automations/", one)


def automations(block_id: str, notify: Notify) -> list[dict[str, Any]]:
    """Return the automations as Prefect's API takes them."""
    late_hours, night_hours = notify.late_hours, notify.night_hours
    of_runs = {"prefect.resource.id": "unet-pipeline.run.*"}

    def tells(name: str, about: str, trigger: Mapping[str, Any], body: str) -> dict[str, Any]:
        message = {"type": "send-notification", "block_document_id": block_id,
                   "subject": f"unet-pipeline: {about}", "body": body}  # fmt: skip
        return {"name": f"{NAMES}{name}", "description": f"Tells {block_id}: {about}",
                "enabled": True, "trigger": trigger, "actions": [message]}  # fmt: skip

    state = "{{ flow_run.state.name }}: {{ flow_run.state.message }}"
    return [
        tells(
            "a run failed",
            f"{_RUN} failed",
            _reactive(["prefect.flow-run.*"], _FAILED),
            f"{state}\n{LINK}",
        ),
        tells(
            "many cases at fault",
            "{{ event.resource['prefect.resource.name'] }} needs a look",
            _reactive([ATTENTION], of_runs),
            "{{ event.payload.sentence }}\n{{ event.payload.report }}",
        ),
        tells(
            "a run is late",
            "{{ event.resource['prefect.resource.name'] }} takes longer than expected",
            _reactive([LATE], of_runs),
            f"{{{{ event.payload.sentence }}}}\n{LINK}",
        ),
        tells(
            "a run takes long",
            f"{_RUN} takes longer than {late_hours:g} hours",
            _proactive(
                late_hours,
                after=["prefect.flow-run.Running"],
                expect=_ENDS,
                for_each=["prefect.resource.id"],
            ),
            f"It is {{{{ flow_run.state.name }}}}.\n{LINK}",
        ),
        tells(
            "a run does not begin",
            f"{_RUN} has not begun {notify.begin_hours:g} hours after it was due",
            _proactive(
                notify.begin_hours,
                after=["prefect.flow-run.Late"],
                expect=["prefect.flow-run.Pending", "prefect.flow-run.Running", *_ENDS],
                for_each=["prefect.resource.id"],
            ),
            f"Look whether a worker polls its work pool.\n{LINK}",
        ),
        tells(
            "a night did not start",
            f"no night has begun for {night_hours:g} hours",
            _proactive(
                night_hours,
                after=["prefect.flow-run.Running"],
                expect=["prefect.flow-run.Running"],
                related=_NIGHTLY,
            ),
            "Look at the schedule of segment/nightly, and whether a worker polls its work pool.",
        ),
    ]


_NIGHTLY = {"prefect.resource.role": "deployment", "prefect.resource.name": "nightly"}
_ANY_RUN: _Match = {"prefect.resource.id": "prefect.flow-run.*"}


def _reactive(expect: Sequence[str], match: _Match = _ANY_RUN) -> dict[str, Any]:
    return {"type": "event", "posture": "Reactive", "threshold": 1, "within": 0,
            "match": match, "expect": [*expect], "for_each": ["prefect.resource.id"]}  # fmt: skip


def _proactive(
    hours: float,
    *,
    after: Sequence[str],
    expect: Sequence[str],
    for_each: Sequence[str] = (),
    related: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    return {"type": "event", "posture": "Proactive", "threshold": 1, "within": hours * _HOUR,
            "match": _ANY_RUN, "match_related": related or {}, "after": list(after),
            "expect": list(expect), "for_each": list(for_each)}  # fmt: skip
