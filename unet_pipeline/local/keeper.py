"""Keep a server and its worker running: what dies is started again, and runs are left alone."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from signal import Signals

from unet_pipeline.errors import RequestError
from unet_pipeline.local.log_files import bound
from unet_pipeline.local.orphans import Orphans
from unet_pipeline.local.prefect_api import prefect_failed
from unet_pipeline.local.prefect_server import PrefectServer
from unet_pipeline.local.processes import Lasting
from unet_pipeline.local.up_state import write_state

CALM_SECONDS = 60.0  # who lived as long has started well
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each further start; then it is given up
RUNS_SECONDS = 2.0  # between two looks at runs whose worker died


@dataclass(frozen=True)
class Backoff:
    """How long to wait before what died is started again.

    >>> died_once = Backoff().after(lived=3600.0)
    >>> died_once.pause, died_once.after(lived=2.0).pause, died_once.gives_up
    (1.0, 2.0, False)

    Attributes
    ----------
    deaths
        How often in a row, each within a minute of its start but the first.
    """

    deaths: int = 0

    def after(self, lived: float) -> "Backoff":
        """Return what holds after one more death, so many seconds after its start."""
        return Backoff(1 if lived >= CALM_SECONDS else self.deaths + 1)

    @property
    def gives_up(self) -> bool:
        """Whether it is no use."""
        return self.deaths > len(PAUSES)

    @property
    def pause(self) -> float:
        """Seconds until the next start."""
        return PAUSES[max(self.deaths, 1) - 1]


@dataclass
class Kept:
    """A server or a worker that is started again when it dies."""

    name: str
    process: Lasting
    backoff: Backoff = Backoff()
    due: float | None = None  # when it starts again

    def died(self, now: float) -> str:
        """Return a sentence when it has just died, else nothing.

        Raises
        ------
        GivenUpError
            Where it dies again and again.
        """
        if self.due is not None or (status := self.process.poll()) is None:
            return ""
        self.backoff = self.backoff.after(now - self.process.since)
        how = f"was killed by {Signals(-status).name}" if status < 0 else f"ended with {status}"
        if self.backoff.gives_up:
            raise GivenUpError(
                f"a {self.name} that {how}, for the {self.backoff.deaths}th time in a row within "
                f"{CALM_SECONDS:.0f} s of its start"
            )
        self.due = now + self.backoff.pause
        return f"The {self.name} {how}; it starts again in {self.backoff.pause:.0f} s"

    def start(self) -> None:
        """Start it again."""
        self.process.again()
        self.due = None


class GivenUpError(RuntimeError):
    """What is said of a server or a worker that does not stay."""


@dataclass
class Keeper:
    """Looks after a server and its worker, once a second."""

    server: PrefectServer
    worker: Lasting
    say: Callable[[str], None]
    since: float
    runs_seen: float = 0.0
    parts: tuple[Kept, Kept] = field(init=False)
    orphans: Orphans = field(init=False)

    def __post_init__(self) -> None:
        self.parts = (Kept("server", self.server.process), Kept("worker", self.worker))
        self.orphans = Orphans(self.server)
        write_state(self.server, self.worker, self.since)

    def look(self) -> None:
        """Start again what died, and do for its runs what a worker that died would have done.

        Raises
        ------
        RequestError
            ``prefect_failed`` where one dies again and again.
        """
        now, (server, worker) = time.time(), self.parts
        for part in self.parts:
            try:
                said = part.died(now)
            except GivenUpError as error:
                raise prefect_failed(str(error), self.server.home) from error
            if said:
                self.say(said)
        if server.due is not None and now >= server.due:
            self._start(server)
        if worker.due is not None and now >= worker.due and self._answers(self.orphans.adopt):
            self._start(worker)
        if self.orphans.pids and now >= self.runs_seen + RUNS_SECONDS:
            self._answers(self.orphans.look)
            self.runs_seen = now
        for name in ("server.log", "worker.log"):
            bound(self.server.home / name)

    def _start(self, part: Kept) -> None:
        part.start()
        self.say(f"The {part.name} was started again (process {part.process.pid})")
        write_state(self.server, self.worker, self.since)

    def _answers(self, work: Callable[[], None]) -> bool:
        """Do what needs the server; say whether it was there. What failed is done again."""
        if not self.server.is_ready():
            return False
        with suppress(RequestError, OSError):  # it died just now
            work()
            return True
        return False
