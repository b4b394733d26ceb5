"""The digest by which a bundle is trusted: of everything in it that can run."""

import hashlib

from unet_pipeline.networks.bundle import WEIGHTS, bundle_url, digest_of
from unet_pipeline.networks.programs import PROGRAMS
from unet_pipeline.networks.trusted import BundleCode
from unet_pipeline.networks.weights import read_weights
from unet_pipeline.storage.store import Store, join


def trust_digest(url_or_name: str, store: Store) -> str:
    """Return ``sha256:<hex>`` of a bundle's code, weights and programs; nothing of it is run.

    Raises
    ------
    RequestError
        ``bundle_invalid`` or ``weights_too_large`` for more than a bundle can be.
    """
    url = bundle_url(url_or_name)
    state = hashlib.sha256(BundleCode.fetch(url, store).digest.encode())
    for path in (*WEIGHTS, *PROGRAMS):
        if store.exists(join(url, path)):
            state.update(f"\0{path}\0{digest_of(read_weights(join(url, path), store))}".encode())
    return f"sha256:{state.hexdigest()}"
