"""The audit of a cohort: what the gate says of each case, many headers at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from unet_pipeline.config import StorageSettings
from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Examined, examine
from unet_pipeline.gate.findings import Tolerance, as_finding
from unet_pipeline.records import Case
from unet_pipeline.request import open_store
from unet_pipeline.storage.discovery import discover

AT_ONCE = 16  # header requests under way; the wait is for the store, not for a core


def audit(images: str, masks: str | None, storage: StorageSettings) -> Iterator[dict[str, Any]]:
    """Yield one line per case: ``{case, verdict, codes, residual_mm, message}``.

    Raises
    ------
    RequestError
        For storage that cannot be reached or a cohort without a case.
    """
    store = open_store(storage)
    cohort = discover(store, images, masks)
    for case, error in cohort.faults:
        yield _fault(case, error).as_dict()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for examined in pool.map(lambda case: examine(store, case, Tolerance()), cohort.cases):
            yield examined.as_dict()


def _fault(case: Case, error: CaseError) -> Examined:
    return Examined(case.name, None, (as_finding(error),))
