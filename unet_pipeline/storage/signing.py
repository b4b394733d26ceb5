"""Addresses of objects that are signed by the keys of a store, for who has none."""

from mimetypes import guess_type

from unet_pipeline.storage.faults import explained
from unet_pipeline.storage.filesystems import StorageOptions, signing_filesystem
from unet_pipeline.storage.urls import canonical


def signed_address(url: str, options: StorageOptions, seconds: int) -> str:
    """Return an address by which anybody reads an object of S3 without keys, for a time.

    No request is made: whether the object is there, and whether the keys may read it, is found
    where somebody opens the address.
    """
    with explained(url):
        files = signing_filesystem(options)
        path = files._strip_protocol(canonical(url))
        kind, _ = guess_type(url)
        shown = {} if kind is None else {"ResponseContentType": kind}
        return str(files.sign(path, expiration=seconds, **shown))
