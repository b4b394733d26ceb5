"""The store that a request's settings name; apart, for what needs no network to begin with."""

from unet_pipeline.config import AccessSettings, StorageSettings
from unet_pipeline.storage.store import StorageOptions, Store


def open_store(storage: AccessSettings) -> Store:
    """Return a store with these settings."""
    return Store(
        StorageOptions(
            endpoint_url=storage.endpoint_url,
            profile=storage.profile,
            region=storage.region,
            allowed=storage.allow if isinstance(storage, StorageSettings) else (),
        )
    )
