"""Whether a store keeps its word on conditional writes: some ignore what they are told."""

import logging
import secrets

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.objects import Over
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import LOCAL, S3, protocol_of, redact

log = logging.getLogger(__name__)

_WRONG: tuple[Over, ...] = (None, Fingerprint(5, "0" * 32))  # of a probe that is there


def keeps_conditions(store: Store, folder: str) -> bool:
    """Say whether a store refuses a write whose condition does not hold.

    Local files do: a name is taken by a link, and replaced under a lock. S3 is tried with a small
    object, in five requests. Of other stores none is asked for conditions.
    """
    protocol = protocol_of(folder)
    if protocol != S3:
        return protocol == LOCAL
    probe = join(folder, f"{secrets.token_hex(8)}.probe")
    try:
        store.put(probe, b"probe", None)
        return not any(_takes(store, probe, over) for over in _WRONG)
    finally:
        try:
            store.remove(probe)
        except CaseError as error:
            if error.code != "access_denied":
                raise
            log.warning("the keys may write but not remove: %s stays", redact(probe))


def _takes(store: Store, url: str, over: Over) -> bool:
    try:
        store.put(url, b"again", over)
    except CaseError as error:
        if error.code != "output_changed":
            raise
        return False
    return True
