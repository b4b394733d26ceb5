"""Faults that concern all cases: told from those of one case by asking the store itself.

A run does not quarantine case after case because a disk is full or a token has run out. It stops,
keeps what is finished, and says so. What may pass within a minute is waited for.

This holds for every command: what a case suffers is shown to ``stop_for``, what is done outside of
any case is done ``under_way``, and reports are written somewhere in any case.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import sleep
from typing import TypeVar

from unet_pipeline.errors import CaseError, PipelineError, RequestError, RunStopped
from unet_pipeline.storage.store import Store

log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Codes of a case behind which the store as a whole may stand.
SUSPECT = frozenset(
    {
        "storage_failed",
        "upload_failed",
        "file_missing",
        "access_denied",
        "credentials_missing",
        "profile_unknown",
        "bucket_missing",
        "region_wrong",
        "certificate_unknown",
        "ca_bundle_invalid",
        "endpoint_invalid",
        "endpoint_unreachable",
        "output_full",
        "read_only",
    }
)
_OF_STORE = SUSPECT - {"file_missing"}
_PASSING = {"endpoint_unreachable", "storage_failed", "access_denied", "credentials_missing"}
WAITS_SECONDS = (2.0, 4.0, 8.0, 16.0, 30.0)  # for a store to come back, or for new keys
UPLOAD_WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)


def find_outage(
    store: Store, code: str, message: str, read: Iterable[str | None], written: str | None
) -> RunStopped | None:
    """Return why the run must stop behind a case that failed with ``code``; None if it need not.

    Parameters
    ----------
    code, message
        Of the case.
    read, written
        Prefixes that the run reads and writes: if one of them cannot be used now, nor a minute
        later, no further case could be done.
    """
    if code not in SUSPECT:
        return None
    places = [place for place in read if place]
    for wait in (*WAITS_SECONDS, None):
        try:
            for place in places:
                store.check_reachable(place)
            if written:
                store.check_writable(written)
        except RequestError as error:
            if error.code not in _PASSING or wait is None:
                return RunStopped.because(error)
            log.warning("%s; asking again in %g s", error, wait)
            sleep(wait)
        else:  # a disk that has room for a probe may have none for a label map
            full = code in {"output_full", "upload_failed"}
            return RunStopped(code, **_parts(message)) if full else None
    return None


def stop_for(
    store: Store, error: PipelineError, read: Iterable[str | None], written: str | None = None
) -> None:
    """Stop the run if what a case suffers is a fault of the store; parameters of ``find_outage``.

    Raises
    ------
    RunStopped
    """
    outage = find_outage(store, error.code, str(error), read, written)
    if outage is not None:
        raise outage from error


def is_of_store(error: PipelineError) -> bool:
    """Say whether an error is one of the store, in the middle of work, and none of the request."""
    return isinstance(error, RunStopped) or (
        isinstance(error, CaseError) and error.code in _OF_STORE
    )


@contextmanager
def under_way() -> Iterator[None]:
    """Let a fault of the store in the block stop the run: the request was sound, and work began.

    Raises
    ------
    RunStopped
    """
    try:
        yield
    except (CaseError, RequestError) as error:
        if error.code not in _OF_STORE:
            raise
        raise RunStopped.because(error) from error


def write_somewhere(
    store: Store,
    folder: str,
    summary: Callable[[str, RunStopped | None], _T],
    write: Callable[[_T, Store], None],
) -> _T:
    """Write a report into its folder or, where the store fails, into a new one of this machine.

    Parameters
    ----------
    summary
        Returns what is said of a run whose report lies in a folder, and that the store stopped
        before its report lay in its own, if so.
    write
        Writes the files that a summary names.
    """
    said = summary(folder, None)
    try:
        write(said, store)
    except PipelineError as error:
        log.error("the report cannot be written to the output: %s", error)  # noqa: TRY400
        said = summary(tempfile.mkdtemp(prefix="unet-report-"), RunStopped.because(error))
        try:
            write(said, Store())
        except PipelineError as worse:
            log.error("nor to this machine: %s", worse)  # noqa: TRY400  the sentence says it all
    return said


def with_retries(act: Callable[[], _T]) -> _T:
    """Write, and again where the store fails, so that nothing is computed again for its sake.

    Raises
    ------
    CaseError
        ``upload_failed`` for a store that failed each time, which is no reason to begin the case
        again.
    """
    for wait in UPLOAD_WAITS_SECONDS:
        try:
            return act()
        except PipelineError as error:
            if error.code not in _PASSING:
                raise
            log.warning("%s; writing again in %g s", error, wait)
            sleep(wait)
    try:
        return act()
    except CaseError as error:
        if error.code != "storage_failed":
            raise
        raise CaseError(
            "upload_failed",
            subject=error.subject,
            found=f"{error.found}, {1 + len(UPLOAD_WAITS_SECONDS)} times",
            wanted=error.wanted,
            remedy="Look at the store, then run again",
        ) from error


def _parts(message: str) -> dict[str, str]:
    return {
        "found": message,
        "wanted": "an output that can be written",
        "remedy": "Make room there, or look at the store",
    }
