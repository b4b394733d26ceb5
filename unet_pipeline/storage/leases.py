"""Which run works on which case, so that two runs over one output share the work.

A lease is a small object that names its case and its run. It holds for as long as the sign of the
run is renewed (``presence.py``), so a case costs three requests and not one more the longer it
takes. A lease of a dead run is taken over.

Where the store keeps its word on conditional writes, a case has one lease, which only one run can
make or take over. Where it does not, each run writes a lease of its own and then lists those of the
case: of two at least one sees the other, and who sees another that lives takes his own away. That
is as sure as a listing is up to date.

Leases spare work, and nothing more. What may be replaced is said by the claims alone
(``claims.py``): a run that lost its lease without knowing mixes nothing.
"""

import json
import logging
import threading
from contextlib import suppress

from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.storage.conditions import keeps_conditions
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.presence import MOST_BYTES, Presence
from unet_pipeline.storage.sidecar import MADE_BY, stamped
from unet_pipeline.storage.store import Store, basename, join

log = logging.getLogger(__name__)

CASES = "cases"
Found = tuple[bytes, Fingerprint]


class Leases:
    """The cases of one output that this run has, and may have."""

    def __init__(self, store: Store, output: str, run_id: str) -> None:
        self.presence = Presence(store, output, run_id)
        self._store = store
        self._taken: dict[str, int] = {}  # by case: how often the run had been silent then
        self._exact: bool | None = None  # whether the store keeps its word; None until it is asked
        self._lock = threading.Lock()

    def take(self, case: str) -> bool:
        """Take a case for this run; say whether it has it now.

        Raises
        ------
        PipelineError
            What the store says.
        """
        if self.presence.is_silent:  # this process slept
            self.presence.renew()
        lapses = self.presence.lapses
        if not (self._take_exact(case) if self._is_exact() else self._take_listed(case)):
            return False
        self._taken[case] = lapses
        return True

    def holds(self, case: str) -> bool:
        """Say whether this run still has a case that it took."""
        if case not in self._taken:
            return False
        if self._taken[case] == self.presence.lapses and not self.presence.is_silent:
            return True
        found = self._read(self._url(case))
        return found is not None and _owner_of(found[0]) == self.presence.owner

    def release(self, case: str) -> None:
        """Let go of a case; nothing happens if this run does not have it."""
        if case not in self._taken:
            return
        with suppress(PipelineError):  # it then ends with the run
            if self.holds(case):
                self._store.remove(self._url(case))
        del self._taken[case]

    def is_free(self, case: str) -> bool:
        """Say whether no other run that lives has a case."""
        if not self._is_exact():
            return not self._listed(case)[1]
        found = self._read(self._url(case))
        return found is None or not self._lives(self._url(case), found[0])

    def _take_exact(self, case: str) -> bool:
        url, mine = self._url(case), self._said(case)
        if self._put(url, mine, None):
            return True
        found = self._read(url)
        if found is None:
            return False
        data, version = found
        if _owner_of(data) == self.presence.owner:  # of a call whose answer was lost
            return True
        if self._lives(url, data) or not self._put(url, mine, version):
            return False
        log.warning("%s is taken over from a run that has ended", case)
        return True

    def _take_listed(self, case: str) -> bool:
        url = self._url(case)
        self._store.put(url, self._said(case), "anything")
        dead, living = self._listed(case)
        if living:
            self._store.remove(url)
            return False
        for other in dead:
            self._store.remove(other)
        return True

    def _listed(self, case: str) -> tuple[list[str], list[str]]:
        """Return the leases that other runs have on a case: of dead runs, of living ones."""
        dead, living = list[str](), list[str]()
        for url in self._store.list_files(join(self._folder, _key(case))):
            owner = basename(url).removesuffix(".json")
            if owner != self.presence.owner:
                (dead if self.presence.sign_of(owner) is None else living).append(url)
        return dead, living

    def _lives(self, url: str, data: bytes) -> bool:
        owner = _owner_of(data)
        if owner is None:  # not of our writing: it is over if nobody changes it
            return not self.presence.is_still(url, data)
        return self.presence.sign_of(owner) is not None

    def _is_exact(self) -> bool:
        with self._lock:
            if self._exact is None:
                self._exact = keeps_conditions(self._store, self._folder)
                if not self._exact:
                    log.warning(
                        "this store knows no conditional writes: two runs over one output see each "
                        "other by listing it, and may compute a case twice where listings lag"
                    )
            return self._exact

    def _put(self, url: str, data: bytes, over: Fingerprint | None) -> bool:
        """Write a lease over what was seen; say whether that was still there."""
        try:
            self._store.put(url, data, over)
        except CaseError as error:
            if error.code not in {"output_changed", "file_missing"}:
                raise
            return False
        return True

    def _read(self, url: str) -> Found | None:
        try:
            return self._store.read_with_fingerprint(url, 0, MOST_BYTES)
        except CaseError as error:
            if error.code != "file_missing":
                raise
            return None

    def _said(self, case: str) -> bytes:
        return stamped(owner=self.presence.owner, case=case)

    def _url(self, case: str) -> str:
        key = _key(case)
        if self._exact:
            return join(self._folder, f"{key}.json")
        return join(self._folder, key, f"{self.presence.owner}.json")

    @property
    def _folder(self) -> str:
        return join(self.presence.folder, CASES)


def _key(case: str) -> str:
    return digest_bytes(case.encode("utf-8", "surrogatepass")).removeprefix("sha256:")[:32]


def _owner_of(data: bytes) -> str | None:
    """Return the run that a lease names; None for what is no lease of ours."""
    try:
        said = json.loads(data)
        owner = said["owner"] if said["made_by"] == MADE_BY else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return owner if isinstance(owner, str) and "/" not in owner and len(owner) < 200 else None
