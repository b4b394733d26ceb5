"""What a run does that finds another at work on its output: share the work, wait, or refuse."""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import sleep

from unet_pipeline.choices import OtherRuns
from unet_pipeline.errors import RequestError
from unet_pipeline.storage.outage import under_way
from unet_pipeline.storage.presence import Presence, Sign, renewed
from unet_pipeline.storage.urls import parent, redact

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # between two looks whether another run has ended, or let go of a case


def meet(presences: Sequence[Presence], wish: OtherRuns) -> None:
    """Wait until no other run works on some outputs, or refuse, as is wished.

    Raises
    ------
    RequestError
        ``output_in_use``.
    """
    said = False
    while wish != "share" and (other := _first_other(presences)) is not None:
        if wish == "refuse":
            raise _in_use(other, presences[0])
        if not said:
            log.warning("waiting until run %s on %s has ended", other.run_id, other.host)
            said = True
        sleep(LOOK_SECONDS)


@contextmanager
def present(presences: Sequence[Presence], wish: OtherRuns) -> Iterator[None]:
    """Be seen by other runs while the block is at work; before it, meet them as is wished.

    Of runs that want to be alone and begin at once, each sees the other: both withdraw, and come
    back after a moment that is never the same.

    Raises
    ------
    RequestError
        ``output_in_use``.
    RunStopped
        For a fault of the store.
    """
    with renewed(presences):
        with under_way():
            meet(presences, wish)
            _announce(presences)
            while wish != "share" and _first_other(presences) is not None:
                for presence in presences:
                    presence.end()
                sleep(random.uniform(0.2, 2.0))  # noqa: S311
                meet(presences, wish)
                _announce(presences)
        yield


def _announce(presences: Sequence[Presence]) -> None:
    for presence in presences:
        presence.renew()


def _first_other(presences: Sequence[Presence]) -> Sign | None:
    return next((sign for presence in presences for sign in presence.others()), None)


def _in_use(other: Sign, presence: Presence) -> RequestError:
    return RequestError(
        "output_in_use",
        subject=redact(parent(presence.folder)),
        found=f"run {other.run_id} on {other.host}, which is at work there",
        wanted="an output that no other run works on",
        remedy="Wait until it has ended, or take --other-runs share or wait",
    )
