"""Runs over one output share its cases: who has a case, and coming back to those of others.

A case that another run has is none at fault. Its record has the code ``TAKEN``, and stays within
the run: when all others are done, it is looked at again, as soon as the other run has let go of it
or has ended, and is then skipped or segmented.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import sleep

from unet_pipeline.records import Case, CaseRecord
from unet_pipeline.runs import Run
from unet_pipeline.storage import meeting
from unet_pipeline.storage.leases import Leases
from unet_pipeline.storage.outage import under_way, with_retries

TAKEN = "case_taken"
_LOST = frozenset({"output_busy", "output_changed", "output_foreign"})  # if the lease is, too


@contextmanager
def among_others(run: Run) -> Iterator[Run]:
    """Be seen by other runs over the same outputs while the block is at work.

    Yields
    ------
    Run
        With the leases of its cases.

    Raises
    ------
    RequestError
        ``output_in_use``, where the run wants to be alone and is not.
    """
    leased = replace(_with_leases(run), also=tuple(map(_with_leases, run.also)))
    presences = [one.leases.presence for one in leased.each if one.leases is not None]
    with meeting.present(presences, run.settings.other_runs):
        yield leased


def _with_leases(run: Run) -> Run:
    return replace(run, leases=Leases(run.store, run.settings.output, run.run_id))


def take(run: Run, case: Case) -> bool:
    """Take a case for a run, if it shares its output; say whether it has it."""
    return run.leases is None or run.leases.take(run.layout.name_of(case))


def let_go(runs: Iterable[Run], case: Case) -> None:
    """Let others have a case."""
    for run in runs:
        if run.leases is not None:
            run.leases.release(run.layout.name_of(case))


def is_taken(records: Iterable[CaseRecord]) -> bool:
    """Say whether another run has the case of some records."""
    return any(record.code == TAKEN for record in records)


def unless_lost(run: Run, case: Case, record: CaseRecord) -> CaseRecord:
    """Return the record of a case; as taken, where another run has taken the case over."""
    if record.code not in _LOST or run.leases is None:
        return record
    return record if run.leases.holds(run.layout.name_of(case)) else taken(run, case)


def taken(run: Run, case: Case) -> CaseRecord:
    """Return the record of a case that another run has."""
    message = f"{case.name}: another run is at work on it."
    return CaseRecord(case.name, "quarantined", code=TAKEN, message=message, model=run.model_name)


def when_free(run: Run, waiting: list[Case], workers: int) -> list[Case]:
    """Wait until other runs have let go of some cases, or have ended; take these from a list.

    Raises
    ------
    RunStopped
        For a fault of the store, and where the run's time is up or its price is reached.
    """
    with under_way():
        while not (free := [one for one in waiting if with_retries(partial(_is_free, run, one))]):
            if (end := run.end.reached(workers)) is not None:
                raise end
            sleep(meeting.LOOK_SECONDS)
    waiting[:] = [case for case in waiting if case not in free]
    return free


def _is_free(run: Run, case: Case) -> bool:
    return all(
        one.leases is None or one.leases.is_free(one.layout.name_of(case)) for one in run.each
    )
