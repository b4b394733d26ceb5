"""Which runs work on an output: each says so there, again and again, for as long as it lives.

A run has one small object below the output, its sign. Whoever wants to know whether the run still
lives looks whether that object changes: not the clocks of two machines are compared, but what one
of them sees. A run whose sign stayed as it was for the life that it names is dead, however it
ended. It is known at once where its process is gone from this machine, or where the sign is older
than any two clocks differ.
"""

import json
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.outage import with_retries
from unet_pipeline.storage.sidecar import MADE_BY, stamped
from unet_pipeline.storage.store import Store, basename, join

log = logging.getLogger(__name__)

FOLDER = ".unet-pipeline"  # below an output; gone when no run works there
SIGNS = "signs"
LIFE_SECONDS = 120.0  # a run that was not heard of for so long is dead
SKEW_SECONDS = 600.0  # by which the clocks of two machines may differ
MOST_BYTES = 2**14  # of a sign, and of a lease
_MOST_LIFE = 3600.0


@dataclass(frozen=True)
class Sign:
    """What a run says of itself.

    Attributes
    ----------
    owner
        Of this run and no other, also where two have one ``run_id``.
    host
        For people.
    machine, started, pid
        Which process it is, for others of its user on its machine; empty where the system does not
        say.
    renewed
        Seconds since 1970 by the clock of its machine.
    life
        Seconds for which the sign holds.
    """

    owner: str
    run_id: str
    host: str
    machine: str
    started: str
    pid: int
    renewed: float
    life: float

    def as_bytes(self) -> bytes:
        """Return the sign as it is stored."""
        return stamped(**asdict(self))

    @property
    def is_over(self) -> bool:
        """Whether it is known without waiting that the run has ended."""
        if self.machine and self.machine == _MACHINE:
            return _start_of(self.pid) != self.started
        return time.time() - self.renewed > self.life + SKEW_SECONDS


def read_sign(data: bytes) -> Sign | None:
    """Return what a stored sign says; None for anything else, whatever it is."""
    try:
        said = json.loads(data)
        if said["made_by"] != MADE_BY:
            return None
        texts = ("owner", "run_id", "host", "machine", "started")
        sign = Sign(
            **{key: str(said[key])[:200] for key in texts},
            pid=int(said["pid"]),
            renewed=float(said["renewed"]),
            life=min(float(said["life"]), _MOST_LIFE),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return sign


class Presence:
    """The sign of this run at one output, and the signs of others there."""

    def __init__(self, store: Store, output: str, run_id: str) -> None:
        self.store, self.folder = store, join(output, FOLDER)
        self.owner = f"{run_id}.{secrets.token_hex(4)}"
        pid = os.getpid()
        host, started = platform.node(), _start_of(pid)
        self._sign = Sign(
            self.owner, run_id, host, _MACHINE, started, pid, renewed=0.0, life=LIFE_SECONDS
        )
        self._lock = threading.Lock()
        self._heard: float | None = None  # moment of the last renewal; None while there is no sign
        self._lapses = 0
        self._seen: dict[str, tuple[bytes, float]] = {}  # of others: the sign, and since when

    @property
    def is_silent(self) -> bool:
        """Whether this run has said nothing for so long that others may call it dead."""
        return self._heard is None or _now() - self._heard > LIFE_SECONDS

    @property
    def lapses(self) -> int:
        """How often it was silent, now included."""
        return self._lapses + self.is_silent

    def renew(self) -> None:
        """Say, for the first time or again, that this run works here."""
        with self._lock:
            begin, self._lapses = _now(), self.lapses
            sign = replace(self._sign, renewed=time.time())
            try:
                self._put(sign)
            except CaseError as error:
                if error.code != "file_missing":  # another run has just removed the empty folder
                    raise
                self._put(sign)
            self._heard = begin

    def renew_again(self) -> None:
        """Renew the sign if there is one; a store that fails is asked again the next time."""
        if self._heard is None:
            return
        try:
            self.renew()
        except PipelineError as error:
            log.warning("the run cannot say that it still works: %s", error)

    def end(self) -> None:
        """Take the sign away, and the folder if nothing else is in it."""
        with self._lock, suppress(PipelineError):
            if self._heard is None:
                return
            self._lapses, self._heard = self.lapses, None
            try:
                self.store.remove(self._url(self.owner))
            except PipelineError:  # keys that may not remove
                self._put(replace(self._sign, machine=""))
                return
            self._remove_dead()
            self.store.prune(self.folder)

    def others(self) -> list[Sign]:
        """Return the signs of other runs that live."""
        found = map(self.sign_of, self._listed())
        return [sign for sign in found if sign is not None]

    def sign_of(self, owner: str) -> Sign | None:
        """Return the sign of another run if it lives, or if that cannot be told yet; else None."""
        try:
            data = self.store.read_at_most(self._url(owner), MOST_BYTES)
        except CaseError as error:
            if error.code not in {"file_missing", "file_too_large"}:
                raise
            return None
        sign = read_sign(data)
        if sign is None or sign.is_over:
            return None
        return None if self.is_still(owner, data, sign.life) else sign

    def is_still(self, name: str, data: bytes, life: float | None = None) -> bool:
        """Say whether what lies under a name has been seen as it is for longer than a life."""
        now, life = _now(), LIFE_SECONDS if life is None else life
        seen, since = self._seen.get(name, (b"", now))
        if seen != data:
            since = now
        self._seen[name] = data, since
        return now - since > life

    def _listed(self) -> list[str]:
        """Return the owners of the signs of others, living or dead."""
        urls = self.store.list_files(join(self.folder, SIGNS))
        names = (basename(url).removesuffix(".json") for url in urls)
        return [name for name in names if name != self.owner]

    def _remove_dead(self) -> None:
        """Remove the signs of killed runs; one that only sleeps writes its own again."""
        for owner in self._listed():
            if self.sign_of(owner) is None:
                self.store.remove(self._url(owner))

    def _put(self, sign: Sign) -> None:
        with_retries(lambda: self.store.put(self._url(self.owner), sign.as_bytes(), "anything"))

    def _url(self, owner: str) -> str:
        return join(self.folder, SIGNS, f"{owner}.json")


@contextmanager
def renewed(presences: Sequence[Presence]) -> Iterator[None]:
    """Renew signs from a thread of their own while the block is at work, then take them away."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LIFE_SECONDS / 3):
            for presence in presences:
                presence.renew_again()

    threading.Thread(target=renew, name="presence", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        for presence in presences:
            presence.end()


def _now() -> float:
    """Return seconds that also pass while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _machine() -> str:
    """Return a digest of what makes us see a process: boot, space of process numbers, user."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return digest_bytes(f"{boot}{Path('/proc/self/ns/pid').readlink()} {os.getuid()}".encode())
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Return when a process began, in ticks of the machine; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    except (OSError, IndexError):
        return ""


_MACHINE = _machine()
