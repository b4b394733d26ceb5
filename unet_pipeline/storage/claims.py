"""What of an output is ours and may be replaced. Nothing else ever is.

A file is ours if a record of ours says so and its digest is still the one that was written: a label
map that a person has edited since is his. Records are never edited by hand: one that says that it
is ours may be replaced.

Before a case writes, its record is put in the state ``begun``: it names the digests of what is
about to be written and of what may be replaced. So whatever a killed run leaves is known as ours by
the next one, and the record of a finished label map still comes last.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from unet_pipeline.errors import CaseError, PipelineError, RequestError
from unet_pipeline.storage.chunk_folders import is_folder
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.ledger import (
    digest_bytes,
    digest_object,
    read_record,
    still_describes,
)
from unet_pipeline.storage.objects import Data
from unet_pipeline.storage.sidecar import (
    BEGUN,
    MOST_BYTES,
    Sidecar,
    read_sidecar,
    read_stamp,
    stamped,
)
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import LOCAL, basename, canonical, protocol_of, redact

RECORD = ".json"


@dataclass(frozen=True)
class Claim:
    """What one case may replace.

    Attributes
    ----------
    output
        URL of its files, without suffix.
    digests
        Of files of ours that may lie there.
    record
        Digest of the record that lies there, or None.
    """

    output: str
    run_id: str
    digests: frozenset[str] = frozenset()
    record: str | None = None

    def begin(self, store: Store, digests: Iterable[str]) -> "Claim":
        """Say in the record what is about to be written, and return the claim on that, too."""
        written = sorted(self.digests.union(digests))
        data = stamped(state=BEGUN, run_id=self.run_id, written=written)
        self.write_record(store, data)
        return Claim(self.output, self.run_id, frozenset(written), digest_bytes(data))

    def write(self, store: Store, suffix: str, data: Data) -> Fingerprint:
        """Write a file where there is none, or one of ours."""
        url = f"{self.output}{suffix}"
        there = store.find(url)
        if there is not None and digest_object(store, url) not in self.digests:
            raise foreign(url, recorded=self.record is not None)
        return store.write(url, data, over=there)

    def remove(self, store: Store, suffix: str) -> None:
        """Remove a file of ours, if there is one."""
        url = f"{self.output}{suffix}"
        if store.find(url) is None:
            return
        if digest_object(store, url) not in self.digests:
            raise foreign(url, recorded=self.record is not None)
        store.remove(url)

    def names(self, store: Store, suffix: str) -> set[str]:
        """Return the names of all objects of a folder, or the empty one of a file, if it exists."""
        return set(_digests(store, f"{self.output}{suffix}", read=False))

    def owns(self, store: Store, suffix: str) -> bool:
        """Say whether a file, or a folder, is there, and ours to the last object."""
        try:
            there = _digests(store, f"{self.output}{suffix}")
        except CaseError as error:
            if error.code != "output_foreign":
                raise
            return False
        return bool(there) and self.digests.issuperset(there.values())

    def write_record(self, store: Store, data: Data) -> None:
        """Replace the record that was seen, or one of the same run (a call that is repeated)."""
        url = f"{self.output}{RECORD}"
        there = store.find(url)
        if there is not None:
            now = store.read_at_most(url, MOST_BYTES)
            if digest_bytes(now) != self.record:
                stamp = read_stamp(now)
                if stamp is None or stamp.run_id != self.run_id:
                    raise (foreign if stamp is None else busy)(url)
        store.write(url, data, over=there)


def written_since(store: Store, mine: Claim, ending: str) -> Sidecar | None:
    """Return the record of a case that was finished under a claim; None if it was not.

    A record that lay there when the claim was made is none, whatever it says.

    Parameters
    ----------
    ending
        What the URL of the label map ends with.
    """
    there = read_record(store, f"{mine.output}{RECORD}")
    if there is None or digest_bytes(there) == mine.record:
        return None
    known = read_sidecar(there)
    if known is None or known.run.run_id != mine.run_id:
        return None
    try:
        return known if still_describes(store, f"{mine.output}{ending}", known) else None
    except CaseError:  # it is gone
        return None


def claim(
    store: Store, output: str, run_id: str, record: bytes | None, suffixes: Iterable[str]
) -> Claim:
    """Claim an output before any work on it.

    Parameters
    ----------
    record
        What lies at ``output`` with ``.json`` behind it, or None for nothing.

    Raises
    ------
    CaseError
        ``output_foreign`` if a file lies there that no record of ours knows as it is; of a folder
        each of its files is asked for.
    """
    stamp = None if record is None else read_stamp(record)
    if record is not None and stamp is None:
        raise foreign(f"{output}{RECORD}")
    digests = frozenset[str]() if stamp is None else stamp.files
    for suffix in suffixes:
        url = f"{output}{suffix}"
        for name, digest in _digests(store, url).items():
            if digest not in digests:
                raise foreign(f"{url}{name}", recorded=record is not None)
    return Claim(output, run_id, digests, None if record is None else digest_bytes(record))


def _digests(store: Store, url: str, *, read: bool = True) -> dict[str, str]:
    """Return the digests of all objects below a folder, by name; of a file under no name.

    Not read, they are empty. What lies in the way of a folder, or in it, and holds no bytes of its
    own (a link, a pipe), is not ours.
    """
    try:
        if is_folder(url) and store.find(url.rstrip("/")) is not None:
            raise foreign(url.rstrip("/"))
        if store.find(url) is None:
            return {}
        names = store.objects_below(url) if is_folder(url) else [""]
        return {name: digest_object(store, f"{url}{name}") if read else "" for name in names}
    except CaseError as error:
        if error.code != "file_special":
            raise
        raise foreign(url) from error


def refuse_inputs(outputs: Iterable[str], inputs: Iterable[str]) -> None:
    """Refuse a request that would write over what it reads, links followed.

    Raises
    ------
    RequestError
        ``output_is_input``.
    """
    real = _Real()
    read = {real.of(url): url for url in inputs}
    for url in outputs:
        if real.of(url) in read:
            raise RequestError(
                "output_is_input",
                subject=redact(url),
                found=f"a file to be written that is read, too ({basename(read[real.of(url)])})",
                wanted="an output that holds no images and no masks of the cohort",
                remedy="Take another --output, best a new folder",
            )


class _Real:
    """Where URLs lead; the links of a folder are followed once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, url: str) -> str:
        whole = canonical(url)
        if protocol_of(whole) != LOCAL:
            return whole
        folder, name = os.path.split(whole)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return f"{self._folders[folder]}/{name}"


def foreign(
    url: str, *, recorded: bool = False, kind: type[PipelineError] = CaseError
) -> PipelineError:
    """Return the error of a file that is not ours, or that was changed since we wrote it."""
    return kind(
        "output_foreign",
        subject=redact(url),
        found="a file that was changed since it was written"
        if recorded
        else "a file that no record here calls ours",
        wanted="nothing of that name, or a file as this program wrote it",
        remedy=f"Move {basename(url)} elsewhere if it is worth keeping, or take another output",
    )


def busy(url: str) -> CaseError:
    """Return the error of a record that another run has written meanwhile."""
    return CaseError(
        "output_busy",
        subject=redact(url),
        found="a record that another run wrote while this case was under way",
        wanted="one run at a time for an output",
        remedy="Wait until the other run has ended, then run again",
    )
