"""Seconds, bytes and money: what a case and a run cost, from what their records say.

Two clocks. *Device-seconds* are spent in the network, on the GPU or the cores that a worker calls
its device. *Worker-seconds* are wall time x workers: what a machine that is rented by the hour is
paid for, whether it was busy or not. Their ratio is the busy share of the devices.
"""

from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter

from unet_pipeline.records import CaseRecord, Rate, RunCost

WITHIN = {"forward": "infer"}  # stages that are part of another one
NOT_STAGES = frozenset({*WITHIN, "wait", "total"})
RESOURCES = ("read", "compute", "write")
_RESOURCE_OF = {"gate": "read", "read": "read", "write": "write", "wait": "wait"}  # else compute


class Stopwatch:
    """Seconds per stage, of stages that follow one another without a gap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        """Give the time since the last lap to ``stage``."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum per stage.

    >>> added([{"read": 1.0, "infer": 2.0}, {"infer": 0.5}])
    {'read': 1.0, 'infer': 2.5}
    """
    total: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


def with_wait(seconds: Mapping[str, float], total: float) -> dict[str, float]:
    """Return the stages of a case with its wall time, and how much of that no stage accounts for.

    That is ``wait``: for a worker, for the device, for data. Where tiles ran side by side, stages
    add up to more than the wall time, and ``wait`` is what is certain of it.

    >>> with_wait({"read": 1.0, "infer": 2.0, "forward": 1.5}, 4.0)
    {'read': 1.0, 'infer': 2.0, 'forward': 1.5, 'wait': 1.0, 'total': 4.0}
    """
    stages = {stage: value for stage, value in seconds.items() if stage not in ("wait", "total")}
    known = sum(value for stage, value in stages.items() if stage not in NOT_STAGES)
    return {**stages, "wait": max(0.0, total - known), "total": total}


def seconds_of_resources(stages: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of stages by what they are spent on: a resource, or waiting.

    >>> seconds_of_resources({"gate": 0.5, "read": 1.0, "infer": 2.0, "forward": 1.5, "wait": 3.0})
    {'read': 1.5, 'compute': 2.0, 'write': 0.0, 'wait': 3.0}
    """
    sums = dict.fromkeys((*RESOURCES, "wait"), 0.0)
    for stage, seconds in stages.items():
        if stage not in WITHIN and stage != "total":
            sums[_RESOURCE_OF.get(stage, "compute")] += seconds
    return sums


def binding_resource(seconds: Mapping[str, float]) -> str | None:
    """Return the resource that took the most seconds; None where none took any.

    >>> binding_resource({"read": 1.5, "compute": 2.0, "write": 0.0})
    'compute'
    """
    most = max(RESOURCES, key=lambda one: seconds.get(one, 0.0))
    return most if seconds.get(most, 0.0) > 0 else None


def device_seconds(record: CaseRecord) -> float:
    """Return the seconds that this run spent in the network for a case; 0 unless it was done."""
    return record.seconds.get("forward", 0.0) if record.status == "done" else 0.0


def expected_seconds(
    known: Iterable[Sequence[CaseRecord]], cases: int, at_once: int
) -> float | None:
    """Return what the cases of a run take, as long each as those of earlier runs did.

    The time of a case has its waiting in it, so a worker takes as many in an hour as its mean
    time says, shared by those that are under way at once (Little's law).

    Parameters
    ----------
    known
        Records of each case that is done, by all models.
    at_once
        Cases under way at once.

    Returns
    -------
    float
        Wall time in seconds; None where no earlier time is known, or nothing is to be done.
    """
    times = [sum(one.seconds.get("total", 0.0) for one in records) for records in known]
    if not any(times) or not cases:
        return None
    return cases * sum(times) / len(times) / min(cases, at_once)


def run_cost(
    records: Sequence[CaseRecord], *, seconds: float, workers: int, rate: Rate | None = None
) -> RunCost:
    """Return what a run cost.

    Parameters
    ----------
    seconds
        Wall time from the first case to the last.
    rate
        What an hour of a worker costs, or None.
    """
    done = [record for record in records if record.status == "done"]
    on_device, of_workers = sum(map(device_seconds, records)), seconds * workers
    price = None if rate is None else rate.hourly * of_workers / 3600
    return RunCost(
        cases=len(done),
        windows=sum(record.windows for record in done),
        workers=workers,
        wall_seconds=seconds,
        worker_seconds=of_workers,
        device_seconds=on_device,
        busy_share=on_device / of_workers if of_workers else 0.0,
        stage_seconds=added(record.seconds for record in done),
        bytes_read=sum(record.bytes_read for record in records),
        bytes_written=sum(record.bytes_written for record in records),
        cases_per_hour=3600 * len(done) / seconds if seconds else 0.0,
        rate=rate,
        price=price,
        price_per_case=price / len(done) if price is not None and done else None,
    )


def shares_of_price(records: Sequence[CaseRecord], price: float) -> dict[str, float]:
    """Share a price among the cases of a run, by their device-seconds.

    >>> a = CaseRecord("a", "done", seconds={"forward": 3.0})
    >>> b = CaseRecord("b", "done", seconds={"forward": 1.0})
    >>> shares_of_price([a, b, CaseRecord("c", "skipped")], 8.0)
    {'a': 6.0, 'b': 2.0, 'c': 0.0}
    """
    whole = sum(map(device_seconds, records))
    if not whole:
        return {}
    return {record.case: price * device_seconds(record) / whole for record in records}
