"""Label maps of another model: nothing takes their place unless that is asked for."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from unet_pipeline.errors import CaseError, PipelineError, RequestError
from unet_pipeline.storage.ledger import read_record
from unet_pipeline.storage.sidecar import RunFacts, read_sidecar
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import redact

ASKED_AHEAD = 64  # records that a request looks at; the others are seen case by case


def refuse_another_model(record: bytes | None, run: RunFacts, url: str) -> None:
    """Refuse to write over a finished label map that other weights made.

    Parameters
    ----------
    record, url
        What lies in the place of the case's record.

    Raises
    ------
    CaseError
        ``model_differs``.
    """
    known = _another(record, run)
    if known is not None:
        raise _differs(known, run, url, CaseError)


def refuse_other_models(store: Store, run: RunFacts, records: Iterable[str]) -> None:
    """Refuse a request over label maps of another model, as far as its first cases tell.

    Parameters
    ----------
    records
        URLs of the cases' records.

    Raises
    ------
    RequestError
        ``model_differs``.
    """
    first = list(islice(records, ASKED_AHEAD))
    with ThreadPoolExecutor(len(first) or 1) as pool:
        there = list(pool.map(lambda url: read_record(store, url), first))
    for url, record in zip(first, there, strict=True):
        known = _another(record, run)
        if known is not None:
            raise _differs(known, run, url, RequestError)


def _another(record: bytes | None, run: RunFacts) -> RunFacts | None:
    """Return what a finished label map was made with, if with other weights."""
    known = None if record is None else read_sidecar(record)
    return None if known is None or known.run.weights == run.weights else known.run


def _differs(old: RunFacts, new: RunFacts, url: str, kind: type[PipelineError]) -> PipelineError:
    return kind(
        "model_differs",
        subject=redact(url),
        found=f"label maps of the model {old.model} ({old.weights[:19]}), and a request for "
        f"{new.model} ({new.weights[:19]})",
        wanted="one model for the label maps of an output",
        remedy="Take --version-name NAME to have these in a folder below the output, another "
        "--output, or --replace to have them in the place of the old ones",
    )
