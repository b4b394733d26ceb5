"""How far a run is, in numbers: a frozen value that each record of a case makes anew.

Nothing here names a case: what is watched leaves the site's walls sooner than a report does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from unet_pipeline.cost import RESOURCES, binding_resource, device_seconds, seconds_of_resources
from unet_pipeline.records import CaseRecord

How = Literal[
    "completed", "stopped_as_asked", "stopped_by_signal", "stopped_by_fault", "refused", "crashed"
]
STATUSES = ("done", "skipped", "quarantined")


@dataclass(frozen=True)
class ModelProgress:
    """What became so far of the cases of a run by one model.

    Attributes
    ----------
    label
        Name of the model.
    expected
        Number of cases that the run was asked for.
    cases
        Number of cases per status and reason code; the code is empty unless quarantined.
    windows
        That the network evaluated, of cases that are done.
    seconds
        Per resource of ``cost.RESOURCES``, and what cases waited, of cases that are done.
    device_seconds
        In the network.
    """

    label: str
    expected: int = 0
    cases: Mapping[tuple[str, str], int] = field(default_factory=dict)
    windows: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    device_seconds: float = 0.0

    @property
    def taken(self) -> int:
        """Number of cases of which it is known what became of them."""
        return sum(self.cases.values())

    @property
    def quarantine_share(self) -> float:
        """Share of the quarantined among these; 0 before the first."""
        bad = sum(count for (status, _), count in self.cases.items() if status == "quarantined")
        return bad / self.taken if self.taken else 0.0

    def after(self, record: CaseRecord) -> "ModelProgress":
        """Return what it is after one more case."""
        key = (record.status, record.code if record.status == "quarantined" else "")
        cases = {**self.cases, key: self.cases.get(key, 0) + 1}
        if record.status != "done":  # a skipped one has windows and seconds of an earlier run
            return replace(self, cases=cases)
        spent = seconds_of_resources(record.seconds)
        return replace(
            self,
            cases=cases,
            windows=self.windows + record.windows,
            seconds={one: self.seconds.get(one, 0.0) + value for one, value in spent.items()},
            device_seconds=self.device_seconds + device_seconds(record),
        )


@dataclass(frozen=True)
class Progress:
    """How far a run is. Moments are seconds since 1970.

    Attributes
    ----------
    started
        When it was begun to check the request.
    run_id
        Empty until the request is checked.
    models
        By the name that records have for a model, which is empty for the only one.
    workers
        Number of worker processes that the run began with.
    begun
        When the first case was begun; None before.
    known
        Number of records for which no work is done: cases that are known to be done, or at fault.
    latest
        When the last case so far was finished; None before the first.
    limit
        When no further case is begun; None for no limit.
    ended, how, code
        When and how the run ended, and the reason code, if there is one; None while it is on.
    """

    started: float
    run_id: str = ""
    models: Mapping[str, ModelProgress] = field(default_factory=dict)
    workers: int = 0
    begun: float | None = None
    known: int = 0
    latest: float | None = None
    limit: float | None = None
    ended: float | None = None
    how: How | None = None
    code: str = ""

    def after(self, records: Sequence[CaseRecord], now: float) -> "Progress":
        """Return how far it is when some more cases have ended."""
        models = dict(self.models)
        for record in records:
            models[record.model] = models[record.model].after(record)
        return replace(self, models=models, latest=now if records else self.latest)

    @property
    def binding_resource(self) -> str | None:
        """What the cases took most time for; None before the first is done."""
        sums = {
            name: sum(one.seconds.get(name, 0.0) for one in self.models.values())
            for name in RESOURCES
        }
        return binding_resource(sums)

    @property
    def expected_end(self) -> float | None:
        """When all cases are done, if they take as long as those so far; None while unknown."""
        if self.begun is None or self.latest is None or self.ended is not None:
            return None
        taken = sum(one.taken for one in self.models.values())
        left = sum(one.expected for one in self.models.values()) - taken
        if left <= 0:
            return self.latest
        if (worked := taken - self.known) <= 0:
            return None
        end = self.latest + left * (self.latest - self.begun) / worked
        return end if self.limit is None else min(end, self.limit)
