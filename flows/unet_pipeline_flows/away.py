"""A Prefect server that is away: what a run has to tell it waits, and the run's work does not.

Prefect's own client asks less and less often, for minutes, and then gives up: at the end of a run,
that has failed then.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

PAUSE_SECONDS = 2.0  # before a server that is away is asked again
PATIENCE_SECONDS = 1800.0  # with it, at the end of a run

_T = TypeVar("_T")


def is_there() -> bool:
    """Say whether the server answers."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as asked:
        return asked.api_healthcheck() is None


def await_server() -> None:
    """Wait until the server answers, but not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_there() and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)


def lasting(act: Callable[[], _T]) -> _T:
    """Do something that needs the server, again and again until it takes it."""
    while True:
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                return act()
        except Exception:  # whatever a server that goes away, or comes back, says
            time.sleep(PAUSE_SECONDS)
